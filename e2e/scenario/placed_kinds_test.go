package scenario

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// oneCore is a pod template, of app, that requests a core and says nothing of virtual nodes.
func oneCore(app string, restart corev1.RestartPolicy) corev1.PodTemplateSpec {
	spec := remoteSpec()
	spec.NodeSelector, spec.Tolerations, spec.RestartPolicy = nil, nil, restart
	spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("1")
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}}, Spec: spec}
}

// bursting makes a policy for the pods of app, which come home on request only.
func (s *scenario) bursting(app string, burst v1alpha1.Burst) {
	s.Helper()
	burst.After, burst.ComeHome.When = &metav1.Duration{Duration: time.Second}, v1alpha1.ComeHomeOnRequest
	_, err := s.policies().Create(s.ctx, &v1alpha1.OffloadPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: app, Namespace: s.ns},
		Spec: v1alpha1.OffloadPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}, When: v1alpha1.OffloadBurst, Burst: &burst,
		},
	}, metav1.CreateOptions{})
	s.check(err)
}

// TestBurstKinds: a threshold divides pods while home has room; pods of a StatefulSet and of a Job overflow as those of a Deployment do,
// and the command brings home what may come; where a cluster autoscaler goes first, its word is waited for.
func TestBurstKinds(t *testing.T) {
	s := begin(t)
	seen := s.trail()
	s.bursting("bounded", v1alpha1.Burst{Threshold: &v1alpha1.BurstThreshold{Pods: ptr.To[int32](2)}})
	s.bursting("set", v1alpha1.Burst{})
	s.bursting("work", v1alpha1.Burst{})
	s.bursting("patient", v1alpha1.Burst{ClusterAutoscaler: v1alpha1.AutoscalerFirst, AutoscalerWait: &metav1.Duration{Duration: time.Hour}})

	s.requesting("bounded", 5, "10m")
	s.placed(seen, "bounded", 2, 3)

	s.ballast()
	s.requestingSet("set", burstFits+1)
	s.placed(seen, "set", burstFits, 1)
	s.work("work", 3)
	s.placed(seen, "work", 0, 3)
	s.autoscalerFirst()

	s.check(s.scale("ballast", 0))
	s.eventually(soon, "the ballast is gone", func(ctx context.Context) error { return s.scaled(ctx, "ballast", 0) })
	if r := s.spillway(s.ctx, "repatriate", "set", "work", "-n", s.ns, "--context", east, "--timeout", "30s"); r.code != 0 {
		t.Errorf("spillway repatriate: %s", r)
	}
	s.placed(seen, "set", burstFits+1, 0)
	s.placed(seen, "work", 0, 3) // they end where they are
	s.everPlaced(seen, "set", burstFits+1, 1)
}

// autoscalerFirst has two pods wait for an autoscaler, which says of one that it adds no node.
func (s *scenario) autoscalerFirst() {
	s.Helper()
	s.requesting("patient", 2, "4")
	var pods []corev1.Pod
	list := func(ctx context.Context) error {
		l, err := s.consumer.kube.CoreV1().Pods(s.ns).List(ctx, metav1.ListOptions{LabelSelector: "app=patient"})
		if err == nil && len(l.Items) != 2 {
			err = fmt.Errorf("there are %d pods", len(l.Items))
		}
		if err == nil {
			pods = l.Items
		}
		return err
	}
	sent := func(ctx context.Context) (names []string, err error) {
		err = list(ctx)
		for _, pod := range pods {
			if pod.Annotations[v1alpha1.AnnotationBurst] != "" {
				names = append(names, pod.Name)
			}
		}
		return names, err
	}
	s.eventually(soon, "two pods wait", list)
	s.always(3*time.Second, "they wait for the autoscaler", func(ctx context.Context) error {
		names, err := sent(ctx)
		if err == nil && len(names) > 0 {
			err = fmt.Errorf("%v were sent to a peer", names)
		}
		return err
	})
	_, err := s.consumer.kube.CoreV1().Events(s.ns).Create(s.ctx, &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{GenerateName: "autoscaler-"},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: s.ns, Name: pods[0].Name, UID: pods[0].UID, APIVersion: "v1"},
		Reason:         "NotTriggerScaleUp", Message: "pod didn't trigger scale-up", Type: corev1.EventTypeNormal,
		Source: corev1.EventSource{Component: "cluster-autoscaler"}, FirstTimestamp: metav1.Now(), LastTimestamp: metav1.Now(), Count: 1,
	}, metav1.CreateOptions{})
	s.check(err)
	first := pods[0].Name
	s.eventually(soon, "the one that gets no node overflows", func(ctx context.Context) error {
		names, err := sent(ctx)
		if err == nil && (len(names) != 1 || names[0] != first) {
			err = fmt.Errorf("%v were sent to a peer, want %s alone", names, first)
		}
		return err
	})
}

// requestingSet is a StatefulSet whose pods request a core each.
func (s *scenario) requestingSet(name string, replicas int32) {
	s.Helper()
	_, err := s.consumer.kube.AppsV1().StatefulSets(s.ns).Create(s.ctx, &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &replicas, ServiceName: name, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
			Template: oneCore(name, corev1.RestartPolicyAlways),
		},
	}, metav1.CreateOptions{})
	s.check(err)
}

// work is a Job whose pods run for long: the lab ends pods of Jobs at home, and those in the peer belong to no Job there.
func (s *scenario) work(name string, pods int32) {
	s.Helper()
	_, err := s.consumer.kube.BatchV1().Jobs(s.ns).Create(s.ctx, &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       batchv1.JobSpec{Parallelism: &pods, Completions: &pods, Template: oneCore(name, corev1.RestartPolicyNever)},
	}, metav1.CreateOptions{})
	s.check(err)
}

// TestMigrationKinds: workloads that a selector means go over with their CronJob, by the word of a Job and of a Prometheus; on the way home
// that one says no half-way, the Migration pauses, and goes on when it is told to.
func TestMigrationKinds(t *testing.T) {
	s := begin(t)
	seen := s.trail()
	var figure atomic.Int32
	prometheus := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, fmt.Sprintf(`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"%d"]}]}}`, figure.Load()))
	}))
	t.Cleanup(prometheus.Close)
	front := map[string]string{"tier": "front"}
	s.atHome("site", 4, "10m")
	_, err := s.consumer.kube.AppsV1().Deployments(s.ns).Patch(s.ctx, "site", types.MergePatchType, []byte(`{"metadata":{"labels":{"tier":"front"}}}`), metav1.PatchOptions{})
	s.check(err)
	s.cronJob("smoke", nil)
	report := s.cronJob("report", front)

	choice := v1alpha1.WorkloadChoice{Selector: &metav1.LabelSelector{MatchLabels: front}}
	gate := v1alpha1.MigrationGate{
		Job:        &v1alpha1.JobGate{FromCronJob: "smoke"},
		Prometheus: &v1alpha1.PrometheusGate{URL: prometheus.URL, Query: "errors", Max: "0.5"},
	}
	s.migrateThese("forward", choice, v1alpha1.MigrationSpec{To: v1alpha1.Destination{Peer: west}, Steps: []int32{50, 100}, Gate: gate})
	s.phase("forward", v1alpha1.MigrationCompleted)
	s.placed(seen, "site", 0, 4)
	s.runs(report, "report-29384710", true)

	gate.Job = nil
	s.migrateThese("back", choice, v1alpha1.MigrationSpec{
		To: v1alpha1.Destination{Home: true}, Steps: []int32{50, 100}, Gate: gate, OnFailure: v1alpha1.FailurePause,
	})
	figure.Store(1)
	m := s.phase("back", v1alpha1.MigrationPaused)
	t.Logf("paused: %s", m.Status.Message)
	s.placed(seen, "site", 2, 2)
	figure.Store(0)
	if r := s.spillway(s.ctx, "migrate", "resume", "back", "-n", s.ns, "--context", east); r.code != 0 {
		t.Errorf("spillway migrate resume: %s", r)
	}
	s.eventually(time.Minute, "it goes on to the end", func(ctx context.Context) error {
		m, err := s.migrations().Get(ctx, "back", getOptions())
		if err == nil && m.Status.Phase != v1alpha1.MigrationCompleted {
			err = fmt.Errorf("it is %q: %s", m.Status.Phase, m.Status.Message)
		}
		return err
	})
	s.placed(seen, "site", 4, 0)
	s.runs(report, "report-29384711", false)
	s.everPlaced(seen, "site", 8, 4)
}

// migrateThese makes a Migration of what a choice means.
func (s *scenario) migrateThese(name string, choice v1alpha1.WorkloadChoice, spec v1alpha1.MigrationSpec) {
	s.Helper()
	spec.Workloads, spec.Gate.Soak = choice, &metav1.Duration{Duration: time.Second}
	_, err := s.migrations().Create(s.ctx, &v1alpha1.Migration{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.ns}, Spec: spec}, metav1.CreateOptions{})
	s.check(err)
}

// cronJob is one that is suspended.
func (s *scenario) cronJob(name string, labels map[string]string) *batchv1.CronJob {
	s.Helper()
	job, err := s.consumer.kube.BatchV1().CronJobs(s.ns).Create(s.ctx, &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec: batchv1.CronJobSpec{
			Schedule: "0 0 1 1 *", Suspend: ptr.To(true),
			JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: oneCore(name, corev1.RestartPolicyNever)}},
		},
	}, metav1.CreateOptions{})
	s.check(err)
	return job
}

// runs makes a run of a CronJob, called as its controller calls one, and looks where its pod is.
func (s *scenario) runs(of *batchv1.CronJob, name string, away bool) {
	s.Helper()
	_, err := s.consumer.kube.BatchV1().Jobs(s.ns).Create(s.ctx, &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: []metav1.OwnerReference{
			*metav1.NewControllerRef(of, batchv1.SchemeGroupVersion.WithKind("CronJob")),
		}},
		Spec: of.Spec.JobTemplate.Spec,
	}, metav1.CreateOptions{})
	s.check(err)
	s.eventually(soon, name+" has a node", func(ctx context.Context) error {
		list, err := s.consumer.kube.CoreV1().Pods(s.ns).List(ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + name})
		switch {
		case err != nil:
			return err
		case len(list.Items) != 1 || list.Items[0].Spec.NodeName == "":
			return fmt.Errorf("%d pods, or no node", len(list.Items))
		case (list.Items[0].Spec.NodeName == nodeName) != away:
			return fmt.Errorf("it is on %s", list.Items[0].Spec.NodeName)
		}
		return nil
	})
}
