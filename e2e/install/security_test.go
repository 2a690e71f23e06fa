package install

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/e2e/lab"
)

// podsAreConfined: the namespace of the controller takes restricted pods only, and the processes have the rights that the chart lists
// and no others.
func (w *world) podsAreConfined(t *testing.T) {
	for _, s := range w.sides() {
		ns, err := s.kube.CoreV1().Namespaces().Get(t.Context(), lab.SpillwayNamespace, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if level := ns.Labels["pod-security.kubernetes.io/enforce"]; level != "restricted" {
			t.Errorf("%s: namespace %s enforces %q, not restricted", s.Name(), ns.Name, level)
		}
		for _, namespace := range []string{lab.SpillwayNamespace, lab.AgentNamespace} {
			pods, err := s.kube.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=spillway"})
			if err != nil {
				t.Fatal(err)
			}
			if len(pods.Items) == 0 {
				t.Errorf("%s: no pod of Spillway is in %s", s.Name(), namespace)
			}
			for i := range pods.Items {
				w.checkProcesses(t, s, &pods.Items[i])
			}
		}
	}
}

// checkProcesses compares the processes of a pod with what its containers ask for.
func (w *world) checkProcesses(t *testing.T, s *side, pod *corev1.Pod) {
	for i := range pod.Spec.Containers {
		container := &pod.Spec.Containers[i]
		command := container.Args[0] // controller or node
		found, err := w.processes(t, pod.Spec.NodeName, command)
		if err != nil {
			t.Fatal(err)
		}
		if len(found) == 0 {
			t.Errorf("%s: no process of %s/%s on %s", s.Name(), pod.Name, container.Name, pod.Spec.NodeName)
		}
		for _, p := range found {
			t.Logf("%s: %s/%s runs as %s with capabilities %s, no new privileges %s", s.Name(), pod.Name, container.Name, p.uid, p.capabilities, p.noNewPrivs)
			if command == "controller" && (p.uid == "0" || strings.Trim(p.capabilities, "0") != "" || p.noNewPrivs != "1") {
				t.Errorf("%s: the controller has more rights than it needs: %+v", s.Name(), p)
			}
			if want := capabilityMask(container.SecurityContext); want != "" && want != p.capabilities {
				t.Errorf("%s: %s/%s has the capabilities %s, the chart says %s", s.Name(), pod.Name, container.Name, p.capabilities, want)
			}
		}
	}
}

// rights are what the kernel says of a process.
type rights struct{ uid, capabilities, noNewPrivs string }

// processes finds those of spillwayd with that command on a node.
func (w *world) processes(t *testing.T, node, command string) ([]rights, error) {
	const script = `for p in /proc/[0-9]*; do
  case "$(tr '\0' ' ' <$p/cmdline 2>/dev/null)" in "/spillwayd $0"*) grep -hE '^(Uid|CapEff|NoNewPrivs):' $p/status; echo .;; esac
done`
	cmd, err := w.lab.RealNodes().Command(t.Context(), node, "sh", "-c", script, command)
	if err != nil {
		return nil, err
	}
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("look at the processes of %s: %w", node, err)
	}
	var found []rights
	var now rights
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		switch f[0] {
		case "Uid:":
			now.uid = f[2] // the effective one
		case "CapEff:":
			now.capabilities = f[1]
		case "NoNewPrivs:":
			now.noNewPrivs = f[1]
		case ".":
			found, now = append(found, now), rights{}
		}
	}
	return found, nil
}

// capabilityMask is what the kernel shows for capabilities that are dropped all but the added ones; empty when the container says
// nothing of that kind, or has all of them.
func capabilityMask(c *corev1.SecurityContext) string {
	if c == nil || c.Capabilities == nil || (c.Privileged != nil && *c.Privileged) || !slices.Contains(c.Capabilities.Drop, "ALL") {
		return ""
	}
	numbers := map[corev1.Capability]int{ // capabilities(7), linux/capability.h
		"CHOWN": 0, "DAC_OVERRIDE": 1, "DAC_READ_SEARCH": 2, "FOWNER": 3, "KILL": 5, "SETGID": 6, "SETUID": 7, "NET_BIND_SERVICE": 10,
		"NET_ADMIN": 12, "NET_RAW": 13, "IPC_LOCK": 14, "SYS_MODULE": 16, "SYS_PTRACE": 19, "SYS_ADMIN": 21, "SYS_RESOURCE": 24, "BPF": 39,
	}
	mask := uint64(0)
	for _, name := range c.Capabilities.Add {
		mask |= 1 << numbers[name]
	}
	return fmt.Sprintf("%016x", mask)
}
