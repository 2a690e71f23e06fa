package realnode

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
)

// corefile answers for the cluster only: there is nobody else to ask.
const corefile = `.:53 {
    errors
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        ttl 5
    }
    cache 5
}
`

// RealLabel is on every real node.
const RealLabel = "lab.spillway.dev/real"

const dnsName = "coredns"

// createObjects waits for the API server and makes what the nodes and the cluster's DNS need. What exists already stays as it is.
func createObjects(ctx context.Context, client kubernetes.Interface, c Cluster, plan ClusterPlan) error {
	err := retry(ctx, func() error {
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
	if err != nil {
		return fmt.Errorf("wait for the API server: %w", err)
	}
	for j, n := range plan.Nodes {
		_, err := client.CoreV1().Nodes().Create(ctx, nodeObject(c.Nodes[j], n), metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create node %s: %w", n.Name, err)
		}
	}
	return createDNS(ctx, client, plan)
}

// nodeObject exists before its kubelet, because labels of any kind and the pod range are not a kubelet's to set.
func nodeObject(want Node, n NodePlan) *corev1.Node {
	labels := map[string]string{corev1.LabelHostname: n.Name, RealLabel: "true"}
	for k, v := range want.Labels {
		labels[k] = v
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: labels},
		Spec: corev1.NodeSpec{
			PodCIDR: n.PodCIDR.String(), PodCIDRs: []string{n.PodCIDR.String()}, Taints: want.Taints,
		},
	}
}

func createDNS(ctx context.Context, client kubernetes.Interface, plan ClusterPlan) error {
	const ns = metav1.NamespaceSystem
	meta := metav1.ObjectMeta{Name: dnsName, Namespace: ns, Labels: map[string]string{"k8s-app": "kube-dns"}}
	create := metav1.CreateOptions{}
	steps := []func() error{
		func() error {
			_, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, create)
			return err
		},
		func() error {
			_, err := client.CoreV1().ServiceAccounts(ns).Create(ctx, &corev1.ServiceAccount{ObjectMeta: meta}, create)
			return err
		},
		func() error {
			_, err := client.RbacV1().ClusterRoles().Create(ctx, dnsRole(), create)
			return err
		},
		func() error {
			_, err := client.RbacV1().ClusterRoleBindings().Create(ctx, dnsBinding(), create)
			return err
		},
		func() error {
			cm := &corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"Corefile": corefile}}
			_, err := client.CoreV1().ConfigMaps(ns).Create(ctx, cm, create)
			return err
		},
		func() error {
			_, err := client.CoreV1().Services(ns).Create(ctx, dnsService(plan), create)
			return err
		},
		func() error {
			_, err := client.AppsV1().Deployments(ns).Create(ctx, dnsDeployment(meta), create)
			return err
		},
	}
	for _, step := range steps {
		// kube-system and the bootstrap roles appear shortly after /readyz.
		err := retry(ctx, func() error {
			if err := step(); err != nil && !apierrors.IsAlreadyExists(err) {
				return err
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("create cluster DNS: %w", err)
		}
	}
	return nil
}

func dnsRole() *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "system:coredns"},
		Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"services", "pods", "namespaces"}, Verbs: []string{"list", "watch"}},
			{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: []string{"list", "watch"}},
		},
	}
}

func dnsBinding() *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "system:coredns"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "system:coredns"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: dnsName, Namespace: metav1.NamespaceSystem}},
	}
}

func dnsService(plan ClusterPlan) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "kube-dns", Namespace: metav1.NamespaceSystem, Labels: map[string]string{"k8s-app": "kube-dns"}},
		Spec: corev1.ServiceSpec{
			ClusterIP: plan.DNS.String(),
			Selector:  map[string]string{"k8s-app": "kube-dns"},
			Ports: []corev1.ServicePort{
				{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP},
				{Name: "dns-tcp", Port: 53, Protocol: corev1.ProtocolTCP},
			},
		},
	}
}

// dnsDeployment is bound to no particular node, so that DNS survives a killed one after the usual time.
func dnsDeployment(meta metav1.ObjectMeta) *appsv1.Deployment {
	replicas, labels := int32(1), map[string]string{"k8s-app": "kube-dns"}
	container := corev1.Container{
		Name: dnsName, Image: DNSImage, ImagePullPolicy: corev1.PullNever,
		Args: []string{"-conf", "/etc/coredns/Corefile"},
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: resource.MustParse("40Mi"),
		}},
		VolumeMounts: []corev1.VolumeMount{{Name: "config", MountPath: "/etc/coredns", ReadOnly: true}},
		ReadinessProbe: &corev1.Probe{
			PeriodSeconds: 1,
			ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: intstr.FromInt32(8181)}},
		},
	}
	return &appsv1.Deployment{
		ObjectMeta: meta,
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					ServiceAccountName: dnsName,
					DNSPolicy:          corev1.DNSDefault,
					PriorityClassName:  "system-cluster-critical",
					Affinity:           onRealNodes(),
					Tolerations:        []corev1.Toleration{{Key: "CriticalAddonsOnly", Operator: corev1.TolerationOpExists}},
					Containers:         []corev1.Container{container},
					Volumes: []corev1.Volume{{Name: "config", VolumeSource: corev1.VolumeSource{
						ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: dnsName}},
					}}},
				},
			},
		},
	}
}

// onRealNodes keeps pods off simulated nodes, which a cluster may have too.
func onRealNodes() *corev1.Affinity {
	real := corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: RealLabel, Operator: corev1.NodeSelectorOpExists}}}
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{real}},
	}}
}

// waitReady waits until the planned nodes are Ready and a DNS pod is. It gives up when one of them is no longer alive.
func waitReady(ctx context.Context, client kubernetes.Interface, plan ClusterPlan, alive func(node string) error) error {
	var dead error
	err := retry(ctx, func() error {
		for _, n := range plan.Nodes {
			if dead = alive(n.Name); dead != nil {
				return nil
			}
		}
		return ready(ctx, client, plan)
	})
	return errors.Join(dead, err)
}

func ready(ctx context.Context, client kubernetes.Interface, plan ClusterPlan) error {
	for _, n := range plan.Nodes {
		node, err := client.CoreV1().Nodes().Get(ctx, n.Name, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("get node %s: %w", n.Name, err)
		}
		if reason := notReady(node); reason != "" {
			return fmt.Errorf("node %s is not Ready: %s", n.Name, reason)
		}
	}
	d, err := client.AppsV1().Deployments(metav1.NamespaceSystem).Get(ctx, dnsName, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("get deployment %s: %w", dnsName, err)
	}
	if d.Status.AvailableReplicas == 0 {
		return fmt.Errorf("deployment %s has no available pod: see kubectl -n %s describe pods", dnsName, metav1.NamespaceSystem)
	}
	return nil
}

// notReady says why a node cannot run pods, or nothing.
func notReady(node *corev1.Node) string {
	for _, t := range node.Spec.Taints {
		if t.Key == corev1.TaintNodeNotReady {
			return "it has the taint " + t.Key
		}
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
			return ""
		} else if c.Type == corev1.NodeReady {
			return c.Message
		}
	}
	return "its kubelet has not reported yet"
}

// retry calls f until it succeeds; when ctx ends it returns f's last error, or the one before when that is only about ctx.
func retry(ctx context.Context, f func() error) error {
	var last error
	for {
		err := f()
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		if wait(ctx, 50*time.Millisecond) != nil {
			return last
		}
	}
}
