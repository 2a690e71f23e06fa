package fuzz

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What the API server of the test has, and the pods name. A namespace's name must be found nowhere else.
const (
	homeNamespace   = "fuzz-home"
	tenantNamespace = "fuzz-tenant"
	accountName     = "fuzz-account"
	priorityClass   = "fuzz-priority"
	priorityValue   = 1000
	runtimeClass    = "fuzz-runtime"
	overheadCPU     = "10m"
)

// shape is what several parts of one pod must agree on.
type shape struct {
	*dice
	windows     bool
	hostProcess bool // of all containers; windows only
	hostNetwork bool
	ownUsers    bool // hostUsers: false
	oldAppArmor bool // by annotation
	grace       int64
	restart     corev1.RestartPolicy
	os          *corev1.PodOS
	claims      []string
	volumes     []corev1.Volume
}

// newPod returns pod number i of a seed: valid, as a user would create it.
func newPod(seed, i uint64) *corev1.Pod {
	s := newShape(newDice(seed, i))
	pod := &corev1.Pod{ObjectMeta: s.meta()}
	spec := &pod.Spec
	spec.Volumes = s.volumes
	spec.Containers = []corev1.Container{s.mainContainer("main")}
	for _, name := range some(s.dice, 3, func() string { return s.name(pick(s.dice, "more", strings.Repeat("m", 60))) }) {
		spec.Containers = append(spec.Containers, s.mainContainer(name))
	}
	for _, name := range some(s.dice, 3, func() string { return s.name("init") }) {
		spec.InitContainers = append(spec.InitContainers, s.initContainer(name))
	}
	s.lifetime(spec)
	s.identity(spec)
	s.host(spec)
	s.network(spec)
	s.scheduling(spec)
	s.podResources(spec)
	return pod
}

// newShape decides what others depend on.
func newShape(d *dice) *shape {
	s := &shape{dice: d, grace: pick[int64](d, 30, 0, 1, 600, -1), restart: pick(d, "", corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)}
	s.windows = d.chance(10)
	s.hostNetwork = d.chance(15)
	switch {
	case s.windows:
		s.hostProcess = s.hostNetwork && d.bool()
		s.os = &corev1.PodOS{Name: corev1.Windows}
	default:
		s.ownUsers = !s.hostNetwork && d.chance(20)
		s.oldAppArmor = d.chance(10)
		s.os = maybe(d, 40, func() corev1.PodOS { return corev1.PodOS{Name: corev1.Linux} })
	}
	s.volumes = some(d, 6, d.volume)
	s.claims = some(d, 2, func() string { return d.name("claim") })
	return s
}

// meta returns the metadata. The annotations that an API server reads are there too.
func (s *shape) meta() metav1.ObjectMeta {
	d := s.dice
	m := metav1.ObjectMeta{Namespace: homeNamespace, Name: d.name("pod.x") + strings.Repeat("y", pick(d, 0, 0, 50, 220))}
	if d.chance(20) {
		m.Name, m.GenerateName = "", "pod-"
	}
	if d.chance(80) {
		m.Labels = d.labels()
		for _, key := range []string{"generation", "shard", "spillway.dev/origin", corev1.LabelTopologyZone} {
			if d.chance(30) {
				m.Labels[key] = "value"
			}
		}
	}
	m.Annotations = map[string]string{}
	for _, key := range []string{
		"example.com/note", corev1.LastAppliedConfigAnnotation, "kubernetes.io/limit-ranger", "kubernetes.io/config.source",
		"spillway.dev/origin-uid", "spillway.dev/else", "cluster-autoscaler.kubernetes.io/safe-to-evict",
	} {
		if d.chance(30) {
			m.Annotations[key] = d.text()
		}
	}
	if d.chance(20) {
		m.Annotations[corev1.PodDeletionCost] = "-7"
	}
	if s.oldAppArmor {
		m.Annotations[corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix+"main"] = pick(d, "runtime/default", "localhost/profile", "unconfined")
	}
	if d.chance(30) {
		m.Finalizers = []string{"example.com/hold"}
	}
	m.OwnerReferences = some(d, 2, func() metav1.OwnerReference {
		return metav1.OwnerReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: d.name("rs"), UID: "a-b-c", BlockOwnerDeletion: maybe(d, 30, d.bool)}
	})
	return m
}

// lifetime fills how long the pod runs and what it waits for.
func (s *shape) lifetime(spec *corev1.PodSpec) {
	d := s.dice
	spec.RestartPolicy, spec.OS = s.restart, s.os
	if s.grace != 30 || d.bool() {
		spec.TerminationGracePeriodSeconds = &s.grace
	}
	spec.ActiveDeadlineSeconds = maybe(d, 20, func() int64 { return int64(d.between(1, 1<<31-1)) })
	spec.ReadinessGates = some(d, 2, func() corev1.PodReadinessGate {
		return corev1.PodReadinessGate{ConditionType: pick[corev1.PodConditionType](d, "example.com/gate", "Ready2")}
	})
	for i, name := range s.claims {
		c := corev1.PodResourceClaim{Name: name}
		object := fmt.Sprint("device-", i)
		if d.bool() {
			c.ResourceClaimName = &object
		} else {
			c.ResourceClaimTemplateName = &object
		}
		spec.ResourceClaims = append(spec.ResourceClaims, c)
	}
	if d.chance(20) {
		high, policy := int32(priorityValue), corev1.PreemptLowerPriority
		spec.PriorityClassName, spec.Priority, spec.PreemptionPolicy = priorityClass, &high, &policy
	}
	if d.chance(20) {
		name := runtimeClass
		spec.RuntimeClassName = &name
		if d.bool() {
			spec.Overhead = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(overheadCPU)}
		}
	}
}

// identity fills who the pod is.
func (s *shape) identity(spec *corev1.PodSpec) {
	d := s.dice
	spec.ServiceAccountName = pick(d, "", "default", accountName)
	if d.chance(30) {
		spec.DeprecatedServiceAccount = spec.ServiceAccountName
	}
	spec.AutomountServiceAccountToken = maybe(d, 50, d.bool)
	spec.ImagePullSecrets = some(d, 3, d.secret)
}

// host fills what the pod shares with its node.
func (s *shape) host(spec *corev1.PodSpec) {
	d := s.dice
	spec.HostNetwork = s.hostNetwork
	percent := 60
	if s.hostProcess { // or else each container would have to say so
		percent = 100
	}
	spec.SecurityContext = maybe(d, percent, s.podSecurity)
	if s.windows {
		return
	}
	if s.ownUsers {
		no := false
		spec.HostUsers = &no
	} else {
		spec.HostPID, spec.HostIPC = d.chance(20), d.chance(20)
		spec.HostUsers = maybe(d, 20, func() bool { return true })
	}
	if !spec.HostPID {
		spec.ShareProcessNamespace = maybe(d, 40, d.bool)
	}
}

// network fills names and DNS.
func (s *shape) network(spec *corev1.PodSpec) {
	d := s.dice
	spec.Hostname, spec.Subdomain = pick(d, "", "host-1"), pick(d, "", "sub")
	spec.SetHostnameAsFQDN = maybe(d, 30, d.bool)
	if !s.hostNetwork && (spec.SetHostnameAsFQDN == nil || !*spec.SetHostnameAsFQDN) {
		spec.HostnameOverride = maybe(d, 30, func() string { return "other.example.com" })
	}
	spec.EnableServiceLinks = maybe(d, 40, d.bool)
	spec.HostAliases = some(d, 2, func() corev1.HostAlias {
		return corev1.HostAlias{IP: pick(d, "192.0.2.7", "2001:db8::7"), Hostnames: []string{"a.example.com", "b"}}
	})
	spec.DNSPolicy = pick(d, "", corev1.DNSClusterFirst, corev1.DNSClusterFirstWithHostNet, corev1.DNSDefault, corev1.DNSNone)
	if spec.DNSPolicy == corev1.DNSNone || d.chance(30) {
		spec.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"192.0.2.53", "2001:db8::53"}, Searches: some(d, 3, func() string { return pick(d, "example.com", "_x.example.com.", ".") }),
			Options: some(d, 2, func() corev1.PodDNSConfigOption {
				return corev1.PodDNSConfigOption{Name: "ndots", Value: maybe(d, 70, func() string { return "2" })}
			})}
	}
}

// podResources fills what all containers together may use: more than resources can add up to.
func (s *shape) podResources(spec *corev1.PodSpec) {
	if s.windows || !s.chance(20) {
		return
	}
	d := s.dice
	spec.Resources = &corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: d.quantity(30, 40, ""), corev1.ResourceMemory: d.quantity(30, 40, "Gi")},
	}
	if d.bool() {
		spec.Resources.Limits = corev1.ResourceList{corev1.ResourceCPU: d.quantity(40, 50, ""), corev1.ResourceMemory: d.quantity(40, 50, "Gi"), "hugepages-2Mi": d.quantity(64, 64, "Mi")}
	}
}
