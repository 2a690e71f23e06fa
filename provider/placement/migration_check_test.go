package placement

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

func migNode(name, peer, cpu string) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}},
		Status: corev1.NodeStatus{
			Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourcePods: resource.MustParse("110")},
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
	if peer != "" {
		n.Labels[v1alpha1.LabelPeer] = peer
		n.Spec.Taints = []corev1.Taint{{Key: v1alpha1.TaintVirtualNode, Value: peer, Effect: corev1.TaintEffectNoSchedule}}
	}
	return n
}

func migTemplate(app string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}}, Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m")}}}}}}
}

func migDeployment(name string, replicas int32) appsv1.Deployment {
	return appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", Labels: map[string]string{"app": name}},
		Spec: appsv1.DeploymentSpec{Replicas: &replicas, Template: migTemplate(name),
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}}}
}

func migBudget(name string, min, max string) policyv1.PodDisruptionBudget {
	b := policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop"},
		Spec: policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}}
	if min != "" {
		v := intstr.Parse(min)
		b.Spec.MinAvailable = &v
	}
	if max != "" {
		v := intstr.Parse(max)
		b.Spec.MaxUnavailable = &v
	}
	return b
}

// migInput is a namespace with a Deployment of ten, a CronJob, two nodes of its own and the peers west and full.
func migInput() MigrationInput {
	return MigrationInput{
		Namespace:   &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}},
		Deployments: []appsv1.Deployment{migDeployment("web", 10)},
		CronJobs: []batchv1.CronJob{{ObjectMeta: metav1.ObjectMeta{Name: "report", Namespace: "shop"}, Spec: batchv1.CronJobSpec{
			JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: migTemplate("report")}}}}},
		Nodes: []*corev1.Node{migNode("a", "", "8"), migNode("b", "", "8"), migNode("spillway-west", "west", "8"), migNode("spillway-full", "full", "2")},
		Spec: v1alpha1.MigrationSpec{
			Workloads: v1alpha1.WorkloadChoice{Names: []v1alpha1.WorkloadName{{Kind: v1alpha1.WorkloadDeployment, Name: "web"}}},
			To:        v1alpha1.Destination{Peer: "west"}, Steps: []int32{10, 50, 100},
		},
	}
}

func migSpec(change func(*corev1.PodSpec)) func(*MigrationInput) {
	return func(in *MigrationInput) { change(&in.Deployments[0].Spec.Template.Spec) }
}

func TestCheck_RefusesAndWarns(t *testing.T) {
	ignore := corev1.NodeInclusionPolicyIgnore
	for name, row := range map[string]struct {
		change            func(*MigrationInput)
		refusals, warning string // a part of the only one; empty: none
	}{
		"nothing wrong":    {func(*MigrationInput) {}, "", ""},
		"unknown workload": {func(in *MigrationInput) { in.Spec.Workloads.Names[0].Name = "wbe" }, "namespace shop has no deployment/wbe", ""},
		"unknown peer":     {func(in *MigrationInput) { in.Spec.To.Peer = "wset" }, "there is no peer wset", ""},
		"peer that is not Ready": {func(in *MigrationInput) {
			in.Nodes[2].Status.Conditions[0].Status = corev1.ConditionUnknown
		}, "peer west is not Ready", ""},
		"peer that is cordoned": {func(in *MigrationInput) { in.Nodes[2].Spec.Unschedulable = true }, "spillway uncordon west", ""},
		"peer without room":     {func(in *MigrationInput) { in.Spec.To.Peer = "full" }, "peer full has no room for 6 of 10 pods of deployment/web: they need cpu 5 and 2 is free", ""},
		"room that others have": {func(in *MigrationInput) {
			other := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "o", Namespace: "other"}, Spec: migTemplate("o").Spec}
			other.Spec.NodeName = "spillway-west"
			other.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("3500m")
			in.Pods = append(in.Pods, other)
		}, "1 of 10 pods of deployment/web: they need cpu 5 and 4500m is free", ""},
		"home without room": {func(in *MigrationInput) {
			in.Spec.To = v1alpha1.Destination{Home: true}
			in.Nodes = []*corev1.Node{migNode("a", "", "2"), in.Nodes[2]}
			for range 10 {
				in.Pods = append(in.Pods, migPod("web", "west"))
			}
		}, "", "home has no room for 6 of 10 pods"},
		"steps that do not rise":     {func(in *MigrationInput) { in.Spec.Steps = []int32{50, 10, 100} }, "do not rise to 100", ""},
		"steps that end early":       {func(in *MigrationInput) { in.Spec.Steps = []int32{10, 50} }, "do not end with 100", ""},
		"a namespace that is closed": {func(in *MigrationInput) { in.Namespace.Labels = map[string]string{v1alpha1.LabelOffload: "disabled"} }, "closed for offloading", ""},
		"a policy that forbids": {func(in *MigrationInput) {
			in.Policy = func(l map[string]string) *v1alpha1.OffloadPolicy {
				return &v1alpha1.OffloadPolicy{ObjectMeta: metav1.ObjectMeta{Name: "stay"}, Spec: v1alpha1.OffloadPolicySpec{When: v1alpha1.OffloadNever}}
			}
		}, "OffloadPolicy stay keeps the pods of deployment/web at home", ""},
		"a claim": {migSpec(func(s *corev1.PodSpec) {
			s.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "db"}}}}
		}), "volume data (claim db), which cannot follow", ""},
		"a hostPath": {migSpec(func(s *corev1.PodSpec) {
			s.Volumes = []corev1.Volume{{Name: "logs", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/log"}}}}
		}), "(hostPath /var/log)", ""},
		"volumes that follow": {migSpec(func(s *corev1.PodSpec) {
			s.Volumes = []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		}), "", ""},
		"a StatefulSet with volumes": {func(in *MigrationInput) {
			in.Spec.Workloads = v1alpha1.WorkloadChoice{Names: []v1alpha1.WorkloadName{{Kind: v1alpha1.WorkloadStatefulSet, Name: "db"}}}
			d := migDeployment("db", 3)
			in.StatefulSets = []appsv1.StatefulSet{{ObjectMeta: d.ObjectMeta, Spec: appsv1.StatefulSetSpec{Replicas: d.Spec.Replicas,
				Selector: d.Spec.Selector, Template: d.Spec.Template,
				VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}}}}}}
		}, "statefulset/db has volumes of its own (volumeClaimTemplates data)", ""},
		"maxUnavailable 0":     {func(in *MigrationInput) { in.Budgets = []policyv1.PodDisruptionBudget{migBudget("b", "", "0")} }, "maxUnavailable 0", ""},
		"minAvailable 100%":    {func(in *MigrationInput) { in.Budgets = []policyv1.PodDisruptionBudget{migBudget("b", "100%", "")} }, "minAvailable 100%", ""},
		"minAvailable of all":  {func(in *MigrationInput) { in.Budgets = []policyv1.PodDisruptionBudget{migBudget("b", "10", "")} }, "minAvailable 10", ""},
		"a budget that allows": {func(in *MigrationInput) { in.Budgets = []policyv1.PodDisruptionBudget{migBudget("b", "9", "")} }, "", ""},
		"two budgets": {func(in *MigrationInput) {
			in.Budgets = []policyv1.PodDisruptionBudget{migBudget("b", "", "1"), migBudget("a", "", "1")}
		}, "PodDisruptionBudgets a, b all select", ""},
		"a nodeSelector": {migSpec(func(s *corev1.PodSpec) { s.NodeSelector = map[string]string{"disk": "ssd"} }), "selects nodes by labels", ""},
		"a taint": {func(in *MigrationInput) {
			in.Nodes[2].Spec.Taints = append(in.Nodes[2].Spec.Taints, corev1.Taint{Key: "gpu", Effect: "NoSchedule"})
		}, "does not tolerate taint gpu", ""},
		"a hostPort of ten": {migSpec(func(s *corev1.PodSpec) { s.Containers[0].Ports = []corev1.ContainerPort{{HostPort: 80}} }), "hostPort 80", ""},
		"a gate's CronJob that is missing": {func(in *MigrationInput) {
			in.Spec.Gate.Job = &v1alpha1.JobGate{FromCronJob: "smoke"}
		}, "the gate's CronJob smoke is not in namespace shop", ""},
		"a gate's CronJob": {func(in *MigrationInput) { in.Spec.Gate.Job = &v1alpha1.JobGate{FromCronJob: "report"} }, "", ""},
		"Recreate":         {func(in *MigrationInput) { in.Deployments[0].Spec.Strategy.Type = appsv1.RecreateDeploymentStrategyType }, "", "strategy Recreate"},
		"one replica":      {func(in *MigrationInput) { *in.Deployments[0].Spec.Replicas = 1 }, "", "one replica and no PodDisruptionBudget"},
		"a spread that counts others": {migSpec(func(s *corev1.PodSpec) {
			s.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{TopologyKey: "zone", WhenUnsatisfiable: corev1.DoNotSchedule, NodeAffinityPolicy: &ignore}}
		}), "", "nodeAffinityPolicy Ignore"},
		"another Migration": {func(in *MigrationInput) {
			in.Others = []*v1alpha1.Migration{{ObjectMeta: metav1.ObjectMeta{Name: "old"}, Status: v1alpha1.MigrationStatus{Phase: v1alpha1.MigrationMoving,
				Workloads: []v1alpha1.MigratedWorkload{{WorkloadName: in.Spec.Workloads.Names[0]}}}}}
		}, "", "Migration old moves deployment/web too"},
		"an empty namespace": {func(in *MigrationInput) {
			in.Spec.Workloads, in.Deployments, in.CronJobs = v1alpha1.WorkloadChoice{All: true}, nil, nil
		}, "no Deployment, StatefulSet or CronJob of namespace shop is meant", ""},
		"all there": {func(in *MigrationInput) {
			for range 10 {
				in.Pods = append(in.Pods, migPod("web", "west"))
			}
		}, "", "all pods are at west already"},
	} {
		t.Run(name, func(t *testing.T) {
			in := migInput()
			row.change(&in)
			v := Check(in)
			for _, c := range []struct{ have, want string }{{strings.Join(v.Refusals, "\n"), row.refusals}, {strings.Join(v.Warnings, "\n"), row.warning}} {
				if !strings.Contains(c.have, c.want) || (c.want == "") != (c.have == "") || strings.Contains(c.have, "\n") {
					t.Errorf("said %q, want one sentence with %q", c.have, c.want)
				}
			}
		})
	}
}

func TestCheck_SaysWhatMovesAndWhatGoesAlong(t *testing.T) {
	in := migInput()
	in.Spec.Workloads = v1alpha1.WorkloadChoice{All: true}
	spec := &in.Deployments[0].Spec.Template.Spec
	spec.ServiceAccountName = "web"
	spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "registry"}}
	spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}}
	spec.Volumes = []corev1.Volume{{Name: "tls", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "tls"}}}}
	in.Services = []corev1.Service{{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "other"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "other"}}}}
	for i := range 10 {
		pod := migPod("web", map[bool]string{true: "west", false: ""}[i < 2])
		in.Pods = append(in.Pods, pod)
	}
	want := []MigrationPlan{
		{WorkloadName: v1alpha1.WorkloadName{Kind: v1alpha1.WorkloadCronJob, Name: "report"}, Along: []string{}},
		{WorkloadName: v1alpha1.WorkloadName{Kind: v1alpha1.WorkloadDeployment, Name: "web"}, Replicas: 10, There: 2, Steps: []int32{2, 5, 10},
			Along: []string{"configmap/settings", "secret/registry", "secret/tls", "service/web", "serviceaccount/web"}},
	}
	v := Check(in)
	if diff := cmp.Diff(want, v.Workloads); diff != "" || len(v.Refusals) > 0 {
		t.Errorf("plan (-want +have):\n%s\nrefusals %v", diff, v.Refusals)
	}
}

// migPod is a pod of a Deployment that is Ready at a place.
func migPod(app, place string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: app, Namespace: "shop", Labels: map[string]string{"app": app}}, Spec: migTemplate(app).Spec,
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
	pod.Spec.NodeName = "a"
	if place != "" {
		pod.Spec.NodeName = "spillway-" + place
	}
	return pod
}
