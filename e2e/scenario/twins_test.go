package scenario

import (
	"context"
	"fmt"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/e2e/lab"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// TestTwinDeletedByProvider: the provider's admin deletes twins. A pod that is to run always gets another, without a word
// at home; one that is not fails with DisruptionTarget, so that its Job makes another.
func TestTwinDeletedByProvider(t *testing.T) {
	s := begin(t)
	s.create(s.remotePod("always"))
	s.create(s.remotePod("never", never))
	s.job("work", 1, 1, time.Hour)
	always, alwaysTwin := s.running("always")
	_, neverTwin := s.running("never")
	worker := s.onlyPodOf("work")
	_, workerTwin := s.running(worker)

	for _, twin := range []*corev1.Pod{alwaysTwin, neverTwin, workerTwin} {
		s.check(s.provider.kube.CoreV1().Pods(twin.Namespace).Delete(s.ctx, twin.Name, metav1.DeleteOptions{}))
	}
	s.eventually(soon, "the twin is made again", func(ctx context.Context) error {
		twin, err := s.twin(ctx, always.UID)
		if err != nil {
			return err
		}
		if twin.UID == alwaysTwin.UID {
			return fmt.Errorf("it is still the old one, deletion asked for at %v", twin.DeletionTimestamp)
		}
		return ready(twin)
	})
	now, _ := s.running("always")
	if now.UID != always.UID {
		t.Errorf("the local pod's UID changed from %s to %s", always.UID, now.UID)
	}
	for _, name := range []string{"never", worker} {
		s.eventually(soon, "pod "+name+" is Failed", func(ctx context.Context) error { return s.disrupted(ctx, name) })
	}
	s.eventually(soon, "the Job makes another pod", func(ctx context.Context) error {
		pods, err := s.podsOf(ctx, "work")
		if err != nil {
			return err
		}
		for i := range pods {
			if pods[i].Name != worker && ready(&pods[i]) == nil {
				return nil
			}
		}
		return fmt.Errorf("no second pod of %d runs", len(pods))
	})
}

// disrupted says why a pod is not Failed with DisruptionTarget; nil when it is.
func (s *scenario) disrupted(ctx context.Context, name string) error {
	pod, err := s.local(ctx, name)
	if err != nil {
		return err
	}
	c := condition(pod, corev1.DisruptionTarget)
	if pod.Status.Phase != corev1.PodFailed || c == nil || c.Status != corev1.ConditionTrue || c.Reason != "DeletionByProvider" {
		return fmt.Errorf("pod %s is %s with DisruptionTarget %v", name, pod.Status.Phase, c)
	}
	return nil
}

// job runs that many pods, so many at once, each for a while, on the virtual node.
func (s *scenario) job(name string, completions, parallelism int32, each time.Duration) {
	s.Helper()
	spec := remoteSpec()
	spec.RestartPolicy = corev1.RestartPolicyNever
	_, err := s.consumer.kube.BatchV1().Jobs(s.ns).Create(s.ctx, &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.ns},
		Spec: batchv1.JobSpec{
			Completions: &completions, Parallelism: &parallelism,
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Annotations: runFor(each)}, Spec: spec},
		},
	}, metav1.CreateOptions{})
	s.check(err)
}

func (s *scenario) podsOf(ctx context.Context, job string) ([]corev1.Pod, error) {
	list, err := s.consumer.kube.CoreV1().Pods(s.ns).List(ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + job})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

func (s *scenario) onlyPodOf(job string) (name string) {
	s.Helper()
	s.eventually(soon, "Job "+job+" has a pod", func(ctx context.Context) error {
		pods, err := s.podsOf(ctx, job)
		if err == nil && len(pods) != 1 {
			return fmt.Errorf("it has %d", len(pods))
		}
		if err == nil {
			name = pods[0].Name
		}
		return err
	})
	return name
}

// TestOrphans: a twin without local pod goes when its local pod is known to be gone, and only then.
func TestOrphans(t *testing.T) {
	s := begin(t)
	s.create(s.remotePod("kept"))
	s.create(s.remotePod("orphan"))
	_, kept := s.running("kept")
	_, orphan := s.running("orphan")
	twins := s.provider.kube.CoreV1().Pods(kept.Namespace)

	// While spillwayd is away its pod goes, and somebody makes what looks like a twin; another is of another consumer.
	s.check(s.consumer.spillwayd.Kill())
	s.deletePod("orphan", byForce())
	invented := s.inventedTwin("invented", s.consumer.id)
	strangers := s.inventedTwin("strangers", "another-consumer")
	for _, pod := range []*corev1.Pod{invented, strangers} {
		_, err := twins.Create(s.ctx, pod, metav1.CreateOptions{})
		s.check(err)
	}
	s.check(s.consumer.spillwayd.Restart())
	for _, name := range []string{"orphan", "invented"} {
		s.eventually(soon, "twin "+name+" goes", func(ctx context.Context) error {
			if _, err := twins.Get(ctx, name, getOptions()); !apierrors.IsNotFound(err) {
				return fmt.Errorf("it is there: %v", err)
			}
			return nil
		})
	}
	_ = orphan

	// The consumer's API server being away is no evidence.
	s.check(s.consumer.Kill(s.ctx, lab.APIServer))
	s.always(4*time.Second, "the twin stays while the consumer's API server is away", func(ctx context.Context) error {
		return s.untouched(ctx, kept)
	})
	s.check(s.consumer.Restart(s.ctx, lab.APIServer))
	s.keepSpillwaydRunning(s.consumer)
	s.create(s.remotePod("canary")) // when it runs, spillwayd has seen all pods anew
	s.eventually(time.Minute, "work goes on", func(ctx context.Context) error {
		pod, err := s.local(ctx, "canary")
		if err != nil {
			return err
		}
		return ready(pod)
	})
	s.check(s.untouched(s.ctx, kept))
	if _, err := twins.Get(s.ctx, "strangers", getOptions()); err != nil {
		t.Errorf("a twin of another consumer: %v", err)
	}
	s.check(twins.Delete(s.ctx, "strangers", byForce()))
}

// untouched says what happened to a twin; nil when it runs on.
func (s *scenario) untouched(ctx context.Context, twin *corev1.Pod) error {
	now, err := s.provider.kube.CoreV1().Pods(twin.Namespace).Get(ctx, twin.Name, getOptions())
	if err != nil {
		return err
	}
	if now.UID != twin.UID {
		return fmt.Errorf("its UID changed from %s to %s", twin.UID, now.UID)
	}
	return ready(now)
}

// inventedTwin has all the marks of a twin, but there never was such a local pod.
func (s *scenario) inventedTwin(name, origin string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name:   name,
			Labels: map[string]string{v1alpha1.LabelOrigin: origin, v1alpha1.LabelNode: nodeName},
			Annotations: map[string]string{
				v1alpha1.AnnotationOriginUID: "00000000-0000-0000-0000-000000000000", v1alpha1.AnnotationOriginNamespace: s.ns,
			},
		},
		Spec: corev1.PodSpec{Containers: remoteSpec().Containers},
	}
}

// keepSpillwaydRunning starts it again when it ended because its API server was away, as a Deployment would.
func (s *scenario) keepSpillwaydRunning(on *side) {
	s.Helper()
	if !on.spillwayd.Running() {
		s.check(on.spillwayd.Restart())
	}
	s.eventually(time.Minute, "spillwayd of cluster "+on.Name()+" works", on.led)
}
