package translate

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The rule for everything that says where a pod may run: home's scheduler has already obeyed it when it chose the virtual
// node, over home's nodes and home's labels. In the peer only that is repeated which means the same there: the hardware
// (architecture, operating system), and which twins share a machine. What concerns zones and regions stays as a wish
// that cannot keep a twin from running. The rest is dropped.

// defaultTolerationSeconds is what the DefaultTolerationSeconds admission gives to pods that say nothing.
const defaultTolerationSeconds = 300

// isHardware says whether a node label tells what a container image needs, in any cluster.
func isHardware(key string) bool {
	switch key {
	case corev1.LabelArchStable, corev1.LabelOSStable, corev1.LabelWindowsBuild,
		"beta.kubernetes.io/arch", "beta.kubernetes.io/os":
		return true
	}
	return false
}

// hardwareSelector keeps of a node selector what isHardware. selector is changed in place.
func hardwareSelector(selector map[string]string) map[string]string {
	maps.DeleteFunc(selector, func(key, _ string) bool { return !isHardware(key) })
	if len(selector) == 0 {
		return nil
	}
	return selector
}

// travellingTolerations keeps what the user tolerates: not home's virtual nodes, and not what home's admission added by
// default, since the provider's adds its own. list is changed in place.
func travellingTolerations(list []corev1.Toleration) []corev1.Toleration {
	list = slices.DeleteFunc(list, func(t corev1.Toleration) bool { return !tolerationTravels(&t) })
	if len(list) == 0 {
		return nil
	}
	return list
}

func tolerationTravels(t *corev1.Toleration) bool {
	switch t.Key {
	case TaintVirtualNode:
		return false
	case corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable:
		return t.Operator != corev1.TolerationOpExists || t.Effect != corev1.TaintEffectNoExecute ||
			t.TolerationSeconds == nil || *t.TolerationSeconds != defaultTolerationSeconds && *t.TolerationSeconds != HeldSeconds
	}
	return true
}

// toleratesAll says whether a pod with these tolerations could be scheduled to any virtual node of the provider.
func toleratesAll(list []corev1.Toleration) bool {
	return slices.ContainsFunc(list, func(t corev1.Toleration) bool {
		return t.Key == "" && t.Operator == corev1.TolerationOpExists &&
			(t.Effect == "" || t.Effect == corev1.TaintEffectNoSchedule)
	})
}

// twinAffinity returns the affinity of the twin. spec is the twin's so far, with local's affinity, which is changed in
// place.
func twinAffinity(local *corev1.Pod, spec *corev1.PodSpec) *corev1.Affinity {
	affinity := spec.Affinity
	if affinity == nil {
		affinity = &corev1.Affinity{}
	}
	affinity.NodeAffinity = hardwareAffinity(affinity.NodeAffinity)
	if toleratesAll(spec.Tolerations) {
		affinity.NodeAffinity = keepOffVirtualNodes(affinity.NodeAffinity)
	}
	if a := affinity.PodAffinity; a != nil {
		hard, soft := podTerms(local, a.RequiredDuringSchedulingIgnoredDuringExecution,
			a.PreferredDuringSchedulingIgnoredDuringExecution)
		affinity.PodAffinity = nil
		if len(hard)+len(soft) > 0 {
			affinity.PodAffinity = &corev1.PodAffinity{
				RequiredDuringSchedulingIgnoredDuringExecution:  hard,
				PreferredDuringSchedulingIgnoredDuringExecution: soft,
			}
		}
	}
	if a := affinity.PodAntiAffinity; a != nil {
		hard, soft := podTerms(local, a.RequiredDuringSchedulingIgnoredDuringExecution,
			a.PreferredDuringSchedulingIgnoredDuringExecution)
		affinity.PodAntiAffinity = nil
		if len(hard)+len(soft) > 0 {
			affinity.PodAntiAffinity = &corev1.PodAntiAffinity{
				RequiredDuringSchedulingIgnoredDuringExecution:  hard,
				PreferredDuringSchedulingIgnoredDuringExecution: soft,
			}
		}
	}
	if *affinity == (corev1.Affinity{}) {
		return nil
	}
	return affinity
}

// hardwareAffinity keeps of a node affinity what isHardware. A required term that says nothing about hardware allows
// any, and so does the whole requirement, for terms are alternatives.
func hardwareAffinity(node *corev1.NodeAffinity) *corev1.NodeAffinity {
	if node == nil {
		return nil
	}
	if required := node.RequiredDuringSchedulingIgnoredDuringExecution; required != nil {
		for i := range required.NodeSelectorTerms {
			if !hardwareTerm(&required.NodeSelectorTerms[i]) {
				node.RequiredDuringSchedulingIgnoredDuringExecution = nil
				break
			}
		}
	}
	node.PreferredDuringSchedulingIgnoredDuringExecution = slices.DeleteFunc(
		node.PreferredDuringSchedulingIgnoredDuringExecution,
		func(p corev1.PreferredSchedulingTerm) bool { return !isHardwareTerm(&p.Preference) })
	for i := range node.PreferredDuringSchedulingIgnoredDuringExecution {
		hardwareTerm(&node.PreferredDuringSchedulingIgnoredDuringExecution[i].Preference)
	}
	if len(node.PreferredDuringSchedulingIgnoredDuringExecution) == 0 {
		node.PreferredDuringSchedulingIgnoredDuringExecution = nil
		if node.RequiredDuringSchedulingIgnoredDuringExecution == nil {
			return nil
		}
	}
	return node
}

func isHardwareTerm(term *corev1.NodeSelectorTerm) bool {
	return slices.ContainsFunc(term.MatchExpressions,
		func(r corev1.NodeSelectorRequirement) bool { return isHardware(r.Key) })
}

// hardwareTerm keeps of a term what isHardware and says whether anything is left.
func hardwareTerm(term *corev1.NodeSelectorTerm) bool {
	term.MatchFields = nil
	term.MatchExpressions = slices.DeleteFunc(term.MatchExpressions,
		func(r corev1.NodeSelectorRequirement) bool { return !isHardware(r.Key) })
	return len(term.MatchExpressions) > 0
}

// keepOffVirtualNodes makes a twin that tolerates every taint stay on real nodes: two clusters that peer both ways
// would otherwise hand it to each other for ever.
func keepOffVirtualNodes(node *corev1.NodeAffinity) *corev1.NodeAffinity {
	if node == nil {
		node = &corev1.NodeAffinity{}
	}
	required := node.RequiredDuringSchedulingIgnoredDuringExecution
	if required == nil || len(required.NodeSelectorTerms) == 0 {
		required = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{}}}
		node.RequiredDuringSchedulingIgnoredDuringExecution = required
	}
	for i := range required.NodeSelectorTerms {
		term := &required.NodeSelectorTerms[i]
		term.MatchExpressions = append(term.MatchExpressions,
			corev1.NodeSelectorRequirement{Key: LabelPeer, Operator: corev1.NodeSelectorOpDoesNotExist})
	}
	return node
}

// podTerms returns the terms of a pod affinity or anti-affinity that mean something in the peer. They are changed in
// place.
func podTerms(local *corev1.Pod, hard []corev1.PodAffinityTerm, soft []corev1.WeightedPodAffinityTerm) (
	[]corev1.PodAffinityTerm, []corev1.WeightedPodAffinityTerm,
) {
	var keepHard []corev1.PodAffinityTerm
	var keepSoft []corev1.WeightedPodAffinityTerm
	for i := range hard {
		switch {
		case !termTravels(local, &hard[i]):
		case hard[i].TopologyKey == corev1.LabelHostname:
			keepHard = append(keepHard, hard[i])
		default:
			keepSoft = append(keepSoft, corev1.WeightedPodAffinityTerm{Weight: 100, PodAffinityTerm: hard[i]})
		}
	}
	for i := range soft {
		if termTravels(local, &soft[i].PodAffinityTerm) {
			keepSoft = append(keepSoft, soft[i])
		}
	}
	return keepHard, keepSoft
}

// termTravels says whether the peer knows the topology of a term and the pods it speaks of: those of the pod's own
// namespace. It makes the term independent of home's namespace names.
func termTravels(local *corev1.Pod, term *corev1.PodAffinityTerm) bool {
	if !isTopology(term.TopologyKey) || term.NamespaceSelector != nil {
		return false
	}
	for _, namespace := range term.Namespaces {
		if namespace != local.Namespace {
			return false
		}
	}
	term.Namespaces = nil
	mergeLabelKeys(term.LabelSelector, term.MatchLabelKeys, metav1.LabelSelectorOpIn, local.Labels)
	mergeLabelKeys(term.LabelSelector, term.MismatchLabelKeys, metav1.LabelSelectorOpNotIn, local.Labels)
	term.MatchLabelKeys, term.MismatchLabelKeys = nil, nil
	return true
}

// isTopology says whether nodes of every cluster carry the label.
func isTopology(key string) bool {
	switch key {
	case corev1.LabelHostname, corev1.LabelTopologyZone, corev1.LabelTopologyRegion:
		return true
	}
	return false
}

// mergeLabelKeys writes the values that matchLabelKeys and mismatchLabelKeys stand for into the selector, as the API
// server has done at home where the feature is on. It refuses a pod that has both.
func mergeLabelKeys(selector *metav1.LabelSelector, keys []string, op metav1.LabelSelectorOperator, labels map[string]string) {
	if selector == nil {
		return
	}
	for _, key := range keys {
		value, known := labels[key]
		merged := slices.ContainsFunc(selector.MatchExpressions, func(r metav1.LabelSelectorRequirement) bool {
			return r.Key == key && r.Operator == op && slices.Equal(r.Values, []string{value})
		})
		if known && !merged {
			selector.MatchExpressions = append(selector.MatchExpressions,
				metav1.LabelSelectorRequirement{Key: key, Operator: op, Values: []string{value}})
		}
	}
}

// softSpread keeps the spreading over machines, zones and regions as a wish. The hard form counts nodes that home's
// scheduler has not seen, and could keep a twin from running for ever. list is changed in place.
func softSpread(local *corev1.Pod, list []corev1.TopologySpreadConstraint) []corev1.TopologySpreadConstraint {
	var keep []corev1.TopologySpreadConstraint
	for i := range list {
		c := list[i]
		again := slices.ContainsFunc(keep, func(k corev1.TopologySpreadConstraint) bool { return k.TopologyKey == c.TopologyKey })
		if !isTopology(c.TopologyKey) || again { // the API takes one soft constraint per key
			continue
		}
		c.WhenUnsatisfiable = corev1.ScheduleAnyway
		c.MinDomains = nil // allowed in the hard form only
		mergeLabelKeys(c.LabelSelector, c.MatchLabelKeys, metav1.LabelSelectorOpIn, local.Labels)
		c.MatchLabelKeys = nil
		keep = append(keep, c)
	}
	return keep
}
