package burst

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/spillway-dev/spillway/e2e/lab/realnode"
)

const port = 8080

// draining is how long a pod goes on to serve when it is told to end: longer than it takes until nobody is sent to it any more, wherever
// it runs.
const draining = 8 * time.Second

// server serves, says who it is, and goes on to serve for a while when it is told to end. It requests nothing: what is tested here must
// not depend on room unless a test says so.
func server(drain time.Duration) corev1.PodSpec {
	from := func(name, field string) corev1.EnvVar {
		return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: field}}}
	}
	c := corev1.Container{
		Name: "app", Image: realnode.AppImage, ImagePullPolicy: corev1.PullNever, Args: []string{"serve"},
		Env: []corev1.EnvVar{from("POD", "metadata.name"), from("NODE", "spec.nodeName")},
		ReadinessProbe: &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{
			HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(port)},
		}},
	}
	grace := int64(2)
	if drain > 0 {
		c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: int64(drain.Seconds())}}}
		grace += int64(drain.Seconds())
	}
	return corev1.PodSpec{Containers: []corev1.Container{c}, TerminationGracePeriodSeconds: &grace}
}

// sleeper does nothing, and ends at once when told to.
func sleeper(cpu resource.Quantity) corev1.PodSpec {
	return corev1.PodSpec{TerminationGracePeriodSeconds: ptr.To[int64](1), Containers: []corev1.Container{{
		Name: "app", Image: realnode.AppImage, ImagePullPolicy: corev1.PullNever, Args: []string{"sleep"},
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: cpu}},
	}}}
}

func labelled(app string) map[string]string { return map[string]string{"app": app} }

func (s *scenario) deployment(name string, replicas int, spec corev1.PodSpec) {
	s.Helper()
	_, err := s.Home.AppsV1().Deployments(s.ns).Create(s.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labelled(name)},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To(int32(replicas)), Selector: &metav1.LabelSelector{MatchLabels: labelled(name)},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labelled(name)}, Spec: spec},
		},
	}, metav1.CreateOptions{})
	s.check(err)
}

func (s *scenario) statefulSet(name string, replicas int, spec corev1.PodSpec) {
	s.Helper()
	_, err := s.Home.AppsV1().StatefulSets(s.ns).Create(s.Context(), &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labelled(name)},
		Spec: appsv1.StatefulSetSpec{
			Replicas: ptr.To(int32(replicas)), Selector: &metav1.LabelSelector{MatchLabels: labelled(name)}, ServiceName: name,
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labelled(name)}, Spec: spec},
		},
	}, metav1.CreateOptions{})
	s.check(err)
}

// service makes one that leads to an app, and returns its address.
func (s *scenario) service(app string) string {
	s.Helper()
	made, err := s.Home.CoreV1().Services(s.ns).Create(s.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: app, Labels: labelled(app)},
		Spec: corev1.ServiceSpec{
			Selector: labelled(app), Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(port)}},
		},
	}, metav1.CreateOptions{})
	s.check(err)
	return made.Spec.ClusterIP
}

// budget keeps that many pods of an app.
func (s *scenario) budget(app string, least int) {
	s.Helper()
	_, err := s.Home.PolicyV1().PodDisruptionBudgets(s.ns).Create(s.Context(), &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: app},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: ptr.To(intstr.FromInt(least)), Selector: &metav1.LabelSelector{MatchLabels: labelled(app)},
		},
	}, metav1.CreateOptions{})
	s.check(err)
}
