package fuzz

import corev1 "k8s.io/api/core/v1"

// nodeKey returns a label of nodes: of hardware, of topology, of the user's own, of virtual nodes.
func (d *dice) nodeKey() string {
	return pick(d, corev1.LabelArchStable, corev1.LabelOSStable, corev1.LabelHostname, corev1.LabelTopologyZone,
		corev1.LabelTopologyRegion, "disk", "example.com/rack", "spillway.dev/peer", "type")
}

// scheduling fills what says where the pod may run.
func (d *dice) scheduling(spec *corev1.PodSpec) {
	if d.chance(30) {
		spec.NodeSelector = map[string]string{d.nodeKey(): "amd64", d.nodeKey(): pick(d, "linux", "")}
	}
	spec.Affinity = maybe(d, 50, func() corev1.Affinity {
		return corev1.Affinity{NodeAffinity: maybe(d, 60, d.nodeAffinity), PodAffinity: maybe(d, 60, d.podAffinity),
			PodAntiAffinity: maybe(d, 60, func() corev1.PodAntiAffinity { return corev1.PodAntiAffinity(d.podAffinity()) })}
	})
	spec.Tolerations = some(d, 5, d.toleration)
	spec.TopologySpreadConstraints = d.spread()
	spec.SchedulerName = pick(d, "", corev1.DefaultSchedulerName, "their-scheduler")
	switch d.IntN(10) {
	case 0:
		spec.NodeName = nodeName
	case 1:
		spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/quota"}, {Name: "wait"}}
	case 2:
		group := "gang"
		spec.SchedulingGroup = &corev1.PodSchedulingGroup{PodGroupName: &group}
	}
}

func (d *dice) nodeAffinity() corev1.NodeAffinity {
	a := corev1.NodeAffinity{
		PreferredDuringSchedulingIgnoredDuringExecution: some(d, 3, func() corev1.PreferredSchedulingTerm {
			return corev1.PreferredSchedulingTerm{Weight: int32(d.between(1, 100)), Preference: d.nodeTerm()}
		}),
	}
	if terms := some(d, 3, d.nodeTerm); terms != nil {
		a.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{NodeSelectorTerms: terms}
	}
	return a
}

// nodeTerm returns a term that may be empty, which matches no node.
func (d *dice) nodeTerm() corev1.NodeSelectorTerm {
	t := corev1.NodeSelectorTerm{MatchExpressions: some(d, 3, d.nodeRequirement)}
	if d.chance(30) {
		t.MatchFields = []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: pick(d, corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn), Values: []string{"node-1"}}}
	}
	return t
}

func (d *dice) nodeRequirement() corev1.NodeSelectorRequirement {
	r := corev1.NodeSelectorRequirement{Key: d.nodeKey(), Operator: pick(d, corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn,
		corev1.NodeSelectorOpExists, corev1.NodeSelectorOpDoesNotExist, corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt)}
	switch r.Operator {
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		r.Values = []string{"amd64", "ssd"}
	case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
		r.Values = []string{"7"}
	}
	return r
}

func (d *dice) podAffinity() corev1.PodAffinity {
	return corev1.PodAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: some(d, 3, d.podTerm),
		PreferredDuringSchedulingIgnoredDuringExecution: some(d, 3, func() corev1.WeightedPodAffinityTerm {
			return corev1.WeightedPodAffinityTerm{Weight: int32(d.between(1, 100)), PodAffinityTerm: d.podTerm()}
		}),
	}
}

func (d *dice) podTerm() corev1.PodAffinityTerm {
	t := corev1.PodAffinityTerm{TopologyKey: d.nodeKey()}
	switch d.IntN(4) {
	case 0:
		t.Namespaces = []string{homeNamespace}
	case 1:
		t.Namespaces = []string{homeNamespace, "other"}
	case 2:
		t.NamespaceSelector = d.selector()
	}
	if d.chance(80) {
		t.LabelSelector = d.selector()
		t.MatchLabelKeys, t.MismatchLabelKeys = d.labelKeys()
	}
	return t
}

// labelKeys returns keys that no selector has.
func (d *dice) labelKeys() (match, mismatch []string) {
	if d.chance(30) {
		match = []string{"generation", "unknown"}[:d.between(1, 2)]
	}
	if d.chance(30) {
		mismatch = []string{"shard"}
	}
	return match, mismatch
}

func (d *dice) toleration() corev1.Toleration {
	t := corev1.Toleration{Key: pick(d, "spillway.dev/virtual-node", corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable, "dedicated", "example.com/gpu"),
		Operator: pick(d, "", corev1.TolerationOpEqual, corev1.TolerationOpExists),
		Effect:   pick(d, "", corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute)}
	if t.Operator == corev1.TolerationOpExists {
		t.Key = pick(d, t.Key, "")
	} else {
		t.Value = pick(d, "", "gpu")
	}
	if t.Effect == corev1.TaintEffectNoExecute {
		t.TolerationSeconds = maybe(d, 50, func() int64 { return pick[int64](d, 300, 0, -1, 9000) })
	}
	return t
}

// spread returns constraints of which no two have the same key and the same hardness.
func (d *dice) spread() []corev1.TopologySpreadConstraint {
	type kind struct {
		key  string
		hard corev1.UnsatisfiableConstraintAction
	}
	seen := map[kind]bool{}
	var list []corev1.TopologySpreadConstraint
	for _, c := range some(d, 5, d.spreadConstraint) {
		if k := (kind{c.TopologyKey, c.WhenUnsatisfiable}); !seen[k] {
			seen[k] = true
			list = append(list, c)
		}
	}
	return list
}

func (d *dice) spreadConstraint() corev1.TopologySpreadConstraint {
	policy := func() corev1.NodeInclusionPolicy {
		return pick(d, corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyIgnore)
	}
	c := corev1.TopologySpreadConstraint{MaxSkew: int32(d.between(1, 5)), TopologyKey: d.nodeKey(),
		WhenUnsatisfiable:  pick(d, corev1.DoNotSchedule, corev1.ScheduleAnyway),
		NodeAffinityPolicy: maybe(d, 40, policy), NodeTaintsPolicy: maybe(d, 40, policy)}
	if c.WhenUnsatisfiable == corev1.DoNotSchedule {
		c.MinDomains = maybe(d, 40, func() int32 { return int32(d.between(1, 9)) })
	}
	if d.chance(80) {
		c.LabelSelector = d.selector()
		c.MatchLabelKeys, _ = d.labelKeys()
	}
	return c
}
