package placer

import (
	"context"
	"fmt"
	"maps"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
	"github.com/spillway-dev/spillway/provider/placement"
)

const (
	// jobEvery is how often a gate's Job is looked at.
	jobEvery = time.Second
	// jobNameLength is how much of a Migration's name is in that of its Jobs, whose pods' names have to be labels.
	jobNameLength = 36
)

// askJob runs the Job of a CronJob once the pods have soaked, and waits until it ends. Errors of the API server are tried again: the
// Migration gives up when the step has taken too long.
func (g *gates) askJob(ctx context.Context, mg *v1alpha1.Migration, _ time.Time) (placement.GateView, bool) {
	gate := mg.Spec.Gate.Job
	if gate == nil {
		return placement.GateView{}, false
	}
	name := gateJobName(mg)
	for {
		job, err := g.client.BatchV1().Jobs(mg.Namespace).Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			if v := g.startJob(ctx, mg, name); v.State == placement.GateFails {
				return v, true
			}
		case err == nil && !metav1.IsControlledBy(job, mg):
			return placement.GateView{State: placement.GateFails, Why: fmt.Sprintf("there is another Job %s", name)}, true
		case err == nil:
			if v := judgeJob(job); v.State != placement.GateWaits {
				return v, true
			}
		}
		if !g.pause(ctx, g.clock.Now().Add(jobEvery)) {
			return placement.GateView{}, true
		}
	}
}

// gateJobName is that of the Job of one soak time. It does not end like those of CronJobs, so that nobody takes it for a run of one.
func gateJobName(mg *v1alpha1.Migration) string {
	return fmt.Sprintf("%.*s-gate-%s-x", jobNameLength, mg.Name, gateKey(mg))
}

// startJob makes the Job, as kubectl create job --from does.
func (g *gates) startJob(ctx context.Context, mg *v1alpha1.Migration, name string) placement.GateView {
	from := mg.Spec.Gate.Job.FromCronJob
	cron, err := g.client.BatchV1().CronJobs(mg.Namespace).Get(ctx, from, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return placement.GateView{State: placement.GateFails, Why: fmt.Sprintf("there is no CronJob %s", from)}
	}
	if err != nil {
		return placement.GateView{}
	}
	_, err = g.client.BatchV1().Jobs(mg.Namespace).Create(ctx, gateJob(mg, cron, name), metav1.CreateOptions{FieldManager: v1alpha1.FieldManager})
	if apierrors.IsInvalid(err) || apierrors.IsForbidden(err) {
		return placement.GateView{State: placement.GateFails, Why: fmt.Sprintf("the Job of CronJob %s cannot be made: %v", from, err)}
	}
	return placement.GateView{}
}

func gateJob(mg *v1alpha1.Migration, cron *batchv1.CronJob, name string) *batchv1.Job {
	owner := metav1.NewControllerRef(mg, v1alpha1.GroupVersion.WithKind("Migration"))
	owner.BlockOwnerDeletion = nil // which would need the right to its finalizers
	annotations := map[string]string{"cronjob.kubernetes.io/instantiate": "manual"}
	maps.Copy(annotations, cron.Spec.JobTemplate.Annotations)
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: mg.Namespace, Labels: cron.Spec.JobTemplate.Labels, Annotations: annotations,
			OwnerReferences: []metav1.OwnerReference{*owner},
		},
		Spec: *cron.Spec.JobTemplate.Spec.DeepCopy(),
	}
}

func judgeJob(job *batchv1.Job) placement.GateView {
	for _, c := range job.Status.Conditions {
		if c.Status != corev1.ConditionTrue {
			continue
		}
		switch c.Type {
		case batchv1.JobComplete:
			return placement.GateView{State: placement.GateHolds, Why: fmt.Sprintf("Job %s has succeeded", job.Name)}
		case batchv1.JobFailed:
			return placement.GateView{State: placement.GateFails, Why: fmt.Sprintf("Job %s has failed: %s", job.Name, c.Message)}
		}
	}
	return placement.GateView{}
}
