package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	semver "k8s.io/apimachinery/pkg/util/version"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// Levels of findings.
const (
	levelOK      = "ok"
	levelWarning = "warning" // install goes on
	levelProblem = "problem" // install stops before anything is made
)

// preflightFinding is one thing that was checked before an installation.
type preflightFinding struct {
	Check string `json:"check"`
	Level string `json:"level"`
	What  string `json:"what"`         // what is, or what is wrong
	Do    string `json:"do,omitempty"` // what to do about it
}

// String is what is wrong and what to do, as one sentence each.
func (f preflightFinding) String() string {
	return strings.TrimSpace(sentence(f.What) + " " + sentence(f.Do))
}

// facts are what was seen of a cluster before an installation. The zero value of a field with an error beside it means that
// it could not be read.
type facts struct {
	version      string   // of Kubernetes, for example v1.36.3
	missing      []string // rights that the user lacks
	nodes        []corev1.Node
	networks     []string // names of CNIs that seem to be at work
	podRanges    []netip.Prefix
	services     []netip.Prefix
	aliasPools   []netip.Prefix
	nodePorts    []takenPort // of Services, where the agents listen
	hostPorts    []takenPort // of pods on the host network, where the agents listen
	namespaces   map[string]corev1.Namespace
	release      string   // status of the Helm release; empty: none
	revision     int      // of the release
	releasedAs   string   // version of the chart of the release
	otherRelease []string // releases of Spillway elsewhere: namespace/name
	leftovers    []string // objects of Spillway without a release
	withAgents   bool
	ports        map[int32]string // of nodes, that the agents need: what for
	unread       []string         // what the user may not see, for people
}

// takenPort is a port of nodes that something else has.
type takenPort struct {
	number   int32
	protocol corev1.Protocol
	holder   string // kind namespace/name
}

// judgeFacts says what the facts mean for an installation, in the order in which people care. Pure.
func judgeFacts(f facts) []preflightFinding {
	checks := []func(facts) preflightFinding{judgeVersion, judgeRights, judgeRelease, judgeNamespaces, judgeNodes}
	if f.withAgents {
		checks = append(checks, judgeKernels, judgeNetwork, judgeRanges, judgePorts)
	}
	var found []preflightFinding
	for _, check := range checks {
		found = append(found, check(f))
	}
	for _, what := range f.unread {
		found = append(found, warn("view", "Use a user that may, or look yourself.", "%s", what))
	}
	return found
}

func good(check, format string, args ...any) preflightFinding {
	return preflightFinding{check, levelOK, fmt.Sprintf(format, args...), ""}
}

func warn(check, do, format string, args ...any) preflightFinding {
	return preflightFinding{check, levelWarning, fmt.Sprintf(format, args...), do}
}

func stop(check, do, format string, args ...any) preflightFinding {
	return preflightFinding{check, levelProblem, fmt.Sprintf(format, args...), do}
}

// Minor versions of Kubernetes that Spillway is made for.
const (
	oldestMinor = 33
	newestMinor = 36
)

func judgeVersion(f facts) preflightFinding {
	const check = "Kubernetes"
	v, err := semver.ParseGeneric(f.version)
	switch {
	case err != nil:
		return warn(check, fmt.Sprintf("Spillway needs 1.%d or newer.", oldestMinor), "the API server calls its version %q", f.version)
	case v.Major() < 1 || v.Major() == 1 && v.Minor() < oldestMinor:
		return stop(check, fmt.Sprintf("Upgrade the cluster to 1.%d or newer.", oldestMinor), "Kubernetes %s is too old", f.version)
	case v.Major() > 1 || v.Minor() > newestMinor:
		return warn(check, "Look whether there is a newer Spillway.", "Kubernetes %s is newer than this Spillway was tested with (1.%d to 1.%d)", f.version, oldestMinor, newestMinor)
	}
	return good(check, "%s", f.version)
}

func judgeRights(f facts) preflightFinding {
	if len(f.missing) > 0 {
		return stop("rights", "Ask an administrator for them (cluster-admin has them all), or use a context that has them.", "you may not %s", strings.Join(f.missing, "; "))
	}
	return good("rights", "you may make all that the chart has")
}

func judgeRelease(f facts) preflightFinding {
	const check = "release"
	switch {
	case len(f.otherRelease) > 0:
		return stop(check, "Remove it with helm uninstall; there is one Spillway in a cluster, in "+v1alpha1.SystemNamespace+".", "Spillway is installed elsewhere: %s", strings.Join(f.otherRelease, ", "))
	case f.release == "" && len(f.leftovers) > 0:
		return warn(check, "They are taken over.", "there is no release, but objects of Spillway are there: %s", inShort(f.leftovers))
	case f.release == "":
		return good(check, "none yet")
	case f.release != "deployed":
		return warn(check, "The next revision replaces it.", "revision %d of the release is %s", f.revision, f.release)
	}
	return good(check, "version %s, revision %d", f.releasedAs, f.revision)
}

func judgeNamespaces(f facts) preflightFinding {
	const check = "namespaces"
	for _, name := range []string{v1alpha1.SystemNamespace, nodeNamespace} {
		namespace, there := f.namespaces[name]
		level := namespace.Labels[labelEnforce]
		switch {
		case !there:
		case namespace.DeletionTimestamp != nil:
			return stop(check, fmt.Sprintf("Wait until it is gone; `kubectl get namespace %s -o yaml` says what holds it.", name), "the namespace %s is being deleted", name)
		case name == nodeNamespace && f.withAgents && level != "" && level != "privileged":
			return stop(check, fmt.Sprintf("Take the label away: kubectl label namespace %s %s-.", name, labelEnforce), "the namespace %s admits pods of level %s only, and the agents need the host network", name, level)
		case name == v1alpha1.SystemNamespace && level != "" && level != levelRestrict:
			return warn(check, fmt.Sprintf("It may be stricter: kubectl label --overwrite namespace %s %s=%s.", name, labelEnforce, levelRestrict), "the namespace %s admits pods of level %s", name, level)
		}
	}
	return good(check, "%s (Pod Security %s), %s (privileged)", v1alpha1.SystemNamespace, levelRestrict, nodeNamespace)
}

// realNodes are those of nodes that have a kernel for the agents: Linux, and not virtual.
func realNodes(nodes []corev1.Node) []corev1.Node {
	return slices.DeleteFunc(slices.Clone(nodes), func(n corev1.Node) bool {
		system := n.Status.NodeInfo.OperatingSystem
		return isVirtual(&n) || system != "" && system != "linux"
	})
}

func judgeNodes(f facts) preflightFinding {
	const check = "nodes"
	real := realNodes(f.nodes)
	var ready, sick, foreign []string
	for i := range real {
		node := &real[i]
		arch := node.Status.NodeInfo.Architecture
		switch {
		case arch != "" && arch != "amd64" && arch != "arm64":
			foreign = append(foreign, fmt.Sprintf("%s (%s)", node.Name, arch))
		case nodeReady(node):
			ready = append(ready, node.Name)
		default:
			sick = append(sick, node.Name)
		}
	}
	switch {
	case len(ready) == 0:
		return warn(check, "Install goes on, but the pods of Spillway start when there is one.", "no Linux node of the architectures amd64 and arm64 is Ready")
	case len(foreign) > 0:
		return warn(check, "Pods that go there cannot start: keep Spillway off with node.nodeSelector and controller.nodeSelector.", "the image is for amd64 and arm64, but there are %s", inShort(foreign))
	case len(sick) > 0:
		return warn(check, "Install may wait for them; --no-wait does not.", "%s not Ready: %s", plural(len(sick), "node"), inShort(sick))
	case len(ready) == 1:
		return warn(check, "Both replicas of the controller run on it: when it fails, nobody takes over.", "one node is Ready")
	}
	return good(check, "%d Linux nodes are Ready", len(ready))
}
