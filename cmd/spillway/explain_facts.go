package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/spillway-dev/spillway/peering/policy"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// What a pod says of its offloading: conditions and reasons that the controller writes on it.
const (
	conditionOffloaded = corev1.PodConditionType("spillway.dev/Offloaded") // only ever False; there while the peer does not run the pod

	offloadNotAllowed   = "OffloadNotAllowed"
	offloadRefused      = "RefusedByProvider"
	offloadNameTaken    = "NameTakenAtProvider"
	offloadNoRoom       = "Unschedulable"
	rootCertificateName = "kube-root-ca.crt" // a ConfigMap that every namespace has of its own
)

// podFacts is everything that the story of a pod is made of. Plain values; what the user may not read is absent.
type podFacts struct {
	now          time.Time
	context      string // of the kubeconfig
	pod          *corev1.Pod
	namespace    *corev1.Namespace // nil: it may not be read
	policies     policy.Set        // of the namespace
	node         *corev1.Node      // nil: the pod has none, or it may not be read
	nodeGone     bool              // the pod is bound to a node that does not exist
	peering      *v1alpha1.Peering // of the virtual node that the pod is bound to
	borrowing    []v1alpha1.Peering
	peeringsRead bool          // false: they may not be read
	virtual      []corev1.Node // all virtual nodes
	idle         string        // why no controller works at home; empty: one does, or it may not be read
	needs        []need
	follows      []need         // what else is at the provider for the pod, although it does not name it
	events       []corev1.Event // of the pod
	twin         twinFacts
}

// twinFacts is what the provider shows. Zero: nobody looked.
type twinFacts struct {
	looked    bool
	hint      string         // a context of the kubeconfig that seems to lead to the provider, where the user named none
	context   string         // of the kubeconfig; empty: the user named none
	why       string         // why nothing could be read there
	namespace string         // of the twin; empty: the provider has opened none
	pod       *corev1.Pod    // nil: there is none
	foreign   bool           // the pod of that name there is not the twin
	events    []corev1.Event // of the twin
}

// presence says whether an object is somewhere.
type presence string

const (
	presenceUnknown presence = "unknown" // nobody looked, or it may not be read
	presenceThere   presence = "there"
	presenceMissing presence = "missing"
	presenceForeign presence = "foreign" // an object of that name is there and is not ours
)

// need is a ConfigMap, Secret or claim that a pod names.
type need struct {
	Kind     string   `json:"kind"`
	Name     string   `json:"name"`
	Optional bool     `json:"optional,omitempty"` // the pod starts without it
	Home     presence `json:"home"`
	Provider presence `json:"provider"`
}

// Kinds of need.
const (
	kindConfigMap = "ConfigMap"
	kindSecret    = "Secret"
	kindClaim     = "PersistentVolumeClaim"
)

// needs collects each need once, mandatory if anyone's is.
type needs map[need]bool // by kind and name alone; whether it is optional

func (n needs) add(kind, name string, optional *bool) {
	if name == "" || kind == kindConfigMap && name == rootCertificateName {
		return
	}
	key := need{Kind: kind, Name: name}
	before, known := n[key]
	n[key] = optional != nil && *optional && (before || !known)
}

// needsOf returns the ConfigMaps, Secrets and claims that spec names in its namespace, sorted by kind and name, each once.
// ConfigMap kube-root-ca.crt is not among them.
func needsOf(spec *corev1.PodSpec) []need {
	found, may := needs{}, true
	for _, ref := range spec.ImagePullSecrets {
		found.add(kindSecret, ref.Name, &may)
	}
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			found.ofContainer(list[i].EnvFrom, list[i].Env)
		}
	}
	for i := range spec.EphemeralContainers {
		found.ofContainer(spec.EphemeralContainers[i].EnvFrom, spec.EphemeralContainers[i].Env)
	}
	for i := range spec.Volumes {
		found.ofVolume(&spec.Volumes[i])
	}
	var list []need
	for key, optional := range found {
		key.Optional, key.Home, key.Provider = optional, presenceUnknown, presenceUnknown
		list = append(list, key)
	}
	slices.SortFunc(list, func(a, b need) int { return strings.Compare(a.Kind+"/"+a.Name, b.Kind+"/"+b.Name) })
	return list
}

func (n needs) ofContainer(from []corev1.EnvFromSource, env []corev1.EnvVar) {
	for i := range from {
		if ref := from[i].ConfigMapRef; ref != nil {
			n.add(kindConfigMap, ref.Name, ref.Optional)
		}
		if ref := from[i].SecretRef; ref != nil {
			n.add(kindSecret, ref.Name, ref.Optional)
		}
	}
	for i := range env {
		if env[i].ValueFrom == nil {
			continue
		}
		if ref := env[i].ValueFrom.ConfigMapKeyRef; ref != nil {
			n.add(kindConfigMap, ref.Name, ref.Optional)
		}
		if ref := env[i].ValueFrom.SecretKeyRef; ref != nil {
			n.add(kindSecret, ref.Name, ref.Optional)
		}
	}
}

func (n needs) ofVolume(v *corev1.Volume) {
	if v.PersistentVolumeClaim != nil {
		n.add(kindClaim, v.PersistentVolumeClaim.ClaimName, nil)
	}
	if v.ConfigMap != nil {
		n.add(kindConfigMap, v.ConfigMap.Name, v.ConfigMap.Optional)
	}
	if v.Secret != nil {
		n.add(kindSecret, v.Secret.SecretName, v.Secret.Optional)
	}
	if v.CSI != nil && v.CSI.NodePublishSecretRef != nil {
		n.add(kindSecret, v.CSI.NodePublishSecretRef.Name, nil)
	}
	if v.Projected == nil {
		return
	}
	for i := range v.Projected.Sources {
		if s := v.Projected.Sources[i].ConfigMap; s != nil {
			n.add(kindConfigMap, s.Name, s.Optional)
		}
		if s := v.Projected.Sources[i].Secret; s != nil {
			n.add(kindSecret, s.Name, s.Optional)
		}
	}
}

// peerName is the Peering that the pod's node stands for; empty for a real node, and for none. Where the node may not be
// read, the Peerings tell.
func (f podFacts) peerName() string {
	if f.node != nil {
		return f.node.Labels[v1alpha1.LabelPeer]
	}
	for i := range f.borrowing {
		if slices.ContainsFunc(f.borrowing[i].Status.Nodes, func(n v1alpha1.VirtualNode) bool { return n.Name == f.pod.Spec.NodeName }) {
			return f.borrowing[i].Name
		}
	}
	return ""
}

// mayLeave says whether the namespace lets its pods leave the cluster. known is false when it may not be read.
func (f podFacts) mayLeave() (allowed, known bool) {
	if f.namespace == nil {
		return false, false
	}
	return f.policies.Closed(f.namespace) == "", true
}

// whyClosed says why no pod of the namespace may leave; empty when pods may.
func (f podFacts) whyClosed() string {
	if _, labelled := f.namespace.Labels[v1alpha1.LabelOffload]; f.policies.Len() == 0 && !labelled {
		return fmt.Sprintf("namespace %s does not allow it (no label %s=%s, no OffloadPolicy)", f.namespace.Name, v1alpha1.LabelOffload, v1alpha1.OffloadEnabled)
	}
	return f.policies.Closed(f.namespace)
}

// verdict is what the policies say about the pod where it is; the zero value for a pod that is not on a virtual node, or whose
// namespace may not be read.
func (f podFacts) verdict() policy.Verdict {
	name := f.peerName()
	if name == "" || f.namespace == nil || f.node == nil {
		return policy.Verdict{}
	}
	return f.policies.Judge(f.namespace, f.pod, policy.Place{Peer: name, Labels: f.node.Labels})
}

// course is where a Migration sends the pod; false when none does, or a policy keeps it at home.
func (f podFacts) course() (policy.Course, bool) {
	if p := f.policies.For(f.pod.Labels); p != nil && p.Spec.When == v1alpha1.OffloadNever {
		return policy.Course{}, false
	}
	return f.policies.Course(f.pod)
}

// keptBy says what keptHome says, of a Migration.
func (f podFacts) keptBy(c policy.Course) string {
	known := slices.ContainsFunc(f.virtual, func(n corev1.Node) bool { return n.Labels[v1alpha1.LabelPeer] == c.Place })
	switch {
	case c.Divided:
		return ""
	case c.Place == "":
		return fmt.Sprintf("Migration %s keeps it at home", c.Migration.Name)
	case !known:
		return fmt.Sprintf("Migration %s sends it to the peer %s, which has no virtual node here", c.Migration.Name, c.Place)
	}
	return ""
}

// overflows says when a pod that its policy keeps at home at first leaves; empty when that is not so, or it was let out by now.
func (f podFacts) overflows() string {
	p := f.policies.For(f.pod.Labels)
	if _, moved := f.course(); moved || p == nil || p.Spec.When != v1alpha1.OffloadBurst || f.tolerates() {
		return ""
	}
	return fmt.Sprintf("OffloadPolicy %s lets it leave when it finds no room at home", p.Name)
}

// keptHome says why a Migration or the policies keep the pod at home, or from the peers that there are; empty when they do not.
func (f podFacts) keptHome() string {
	if c, ok := f.course(); ok {
		return f.keptBy(c)
	}
	p := f.policies.For(f.pod.Labels)
	switch {
	case p == nil || f.namespace == nil:
		return ""
	case p.Spec.When == v1alpha1.OffloadNever:
		return fmt.Sprintf("OffloadPolicy %s keeps it at home", p.Name)
	}
	for i := range f.virtual {
		place := policy.Place{Peer: f.virtual[i].Labels[v1alpha1.LabelPeer], Labels: f.virtual[i].Labels}
		if f.policies.Judge(f.namespace, f.pod, place).Refusal == "" {
			return ""
		}
	}
	return fmt.Sprintf("OffloadPolicy %s lets it run in no peer that there is", p.Name)
}

// tolerates says whether the pod tolerates the taint of a virtual node, under any name or that of a peer. Where no virtual node is
// known, any toleration of that taint will do.
func (f podFacts) tolerates() bool {
	taints := []corev1.Taint{{Key: v1alpha1.TaintVirtualNode, Effect: corev1.TaintEffectNoSchedule}}
	for i := range f.virtual {
		taints = append(taints, corev1.Taint{
			Key: v1alpha1.TaintVirtualNode, Value: f.virtual[i].Labels[v1alpha1.LabelPeer], Effect: corev1.TaintEffectNoSchedule,
		})
	}
	return slices.ContainsFunc(f.pod.Spec.Tolerations, func(t corev1.Toleration) bool {
		return len(f.virtual) == 0 && t.Key == v1alpha1.TaintVirtualNode ||
			slices.ContainsFunc(taints, func(taint corev1.Taint) bool { return t.ToleratesTaint(klog.Logger{}, &taint, false) })
	})
}

// podCondition returns the condition of this type, or nil.
func podCondition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == kind {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// podReady says whether the pod is Ready.
func podReady(pod *corev1.Pod) bool {
	c := podCondition(pod, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// nodeReadiness returns the node's condition Ready, or nil.
func nodeReadiness(node *corev1.Node) *corev1.NodeCondition {
	for i := range node.Status.Conditions {
		if node.Status.Conditions[i].Type == corev1.NodeReady {
			return &node.Status.Conditions[i]
		}
	}
	return nil
}

// hasRun says whether a container of the pod has ever run.
func hasRun(pod *corev1.Pod) bool {
	for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if c.ContainerID != "" {
			return true
		}
	}
	return pod.Status.Phase == corev1.PodRunning
}
