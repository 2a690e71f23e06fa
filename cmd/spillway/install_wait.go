package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	nodeNamespace   = "spillway-node" // where the agents are: on the host network, with privileges
	controllerName  = "spillway-controller"
	agentName       = "spillway-node"
	ourPods         = "app.kubernetes.io/name=spillway,app.kubernetes.io/component="
	lookEvery       = 500 * time.Millisecond
	componentAgents = "node"
)

// rollout is how far one of Spillway's two programs has come.
type rollout struct {
	what    string // controller or agents
	ready   int
	wanted  int
	settled bool     // the newest state was seen and rolled out
	stuck   []string // why pods do not start
}

// done says whether all is as wanted.
func (r rollout) done() bool { return r.settled && r.ready >= r.wanted }

// String is for people: agents 3 of 4 ready.
func (r rollout) String() string {
	text := fmt.Sprintf("%s %d of %d ready", r.what, r.ready, r.wanted)
	if len(r.stuck) > 0 {
		text += " (" + inShort(r.stuck) + ")"
	}
	return text
}

// awaitReady waits until all pods of Spillway are ready and a controller leads.
func (i *installRun) awaitReady(ctx context.Context) error {
	if err := awaitRollout(ctx, i.home, i.steps, func(ctx context.Context) (*rollout, error) { return controllers(ctx, i.home) }); err != nil {
		return err
	}
	if err := awaitRollout(ctx, i.home, i.steps, func(ctx context.Context) (*rollout, error) { return agents(ctx, i.home) }); err != nil {
		return err
	}
	if there, err := controllers(ctx, i.home); err != nil || there == nil {
		return explain(i.home, "read the Deployment "+controllerName, err)
	}
	return i.steps.run("a controller leads", func() (string, error) { return "", i.awaitLeader(ctx) })
}

// controllers is how far the Deployment has come; nil: there is none.
func controllers(ctx context.Context, c *cluster) (*rollout, error) {
	d, err := c.kube.AppsV1().Deployments(v1alpha1.SystemNamespace).Get(ctx, controllerName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	pods, err := c.kube.CoreV1().Pods(v1alpha1.SystemNamespace).List(ctx, metav1.ListOptions{LabelSelector: ourPods + "controller"})
	if err != nil {
		return nil, err
	}
	return new(judgeDeployment(d, pods.Items)), nil
}

// agents is how far the DaemonSet has come; nil: there is none.
func agents(ctx context.Context, c *cluster) (*rollout, error) {
	d, err := c.kube.AppsV1().DaemonSets(nodeNamespace).Get(ctx, agentName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	pods, err := c.kube.CoreV1().Pods(nodeNamespace).List(ctx, metav1.ListOptions{LabelSelector: ourPods + componentAgents})
	if err != nil {
		return nil, err
	}
	return new(judgeDaemonSet(d, pods.Items)), nil
}

func judgeDeployment(d *appsv1.Deployment, pods []corev1.Pod) rollout {
	wanted := 1
	if d.Spec.Replicas != nil {
		wanted = int(*d.Spec.Replicas)
	}
	s := d.Status
	return rollout{what: "controller", ready: min(int(s.ReadyReplicas), int(s.UpdatedReplicas)), wanted: wanted, stuck: whyStuck(pods),
		settled: s.ObservedGeneration >= d.Generation && s.Replicas == s.UpdatedReplicas}
}

func judgeDaemonSet(d *appsv1.DaemonSet, pods []corev1.Pod) rollout {
	s := d.Status
	return rollout{what: "agents", ready: min(int(s.NumberReady), int(s.UpdatedNumberScheduled)), wanted: int(s.DesiredNumberScheduled), stuck: whyStuck(pods),
		settled: s.ObservedGeneration >= d.Generation && d.Generation > 0}
}

// awaitRollout shows how far what look sees has come until it is done. It looks again and again, rather than watch three kinds.
func awaitRollout(ctx context.Context, c *cluster, s *steps, look func(context.Context) (*rollout, error)) error {
	var last *rollout
	var lastErr error
	s.current("waiting for the pods")
	err := wait.PollUntilContextCancel(ctx, lookEvery, true, func(ctx context.Context) (bool, error) {
		now, err := look(ctx)
		if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
			return false, err
		}
		if lastErr = err; err != nil {
			return false, nil // the API server of a cluster that is just made may be away for a moment
		}
		if last = now; now == nil || now.done() {
			return true, nil
		}
		s.progress("%s", now)
		return false, nil
	})
	switch {
	case err == nil && last == nil: // it is not installed
		return nil
	case err == nil:
		s.ok(last.what+" ready", fmt.Sprintf("%d of %d", last.ready, last.wanted))
		return nil
	case errors.Is(err, context.DeadlineExceeded) && last != nil:
		s.failed(last.what + " ready")
		return problemf(adviceOn(c, last), "not all pods of Spillway are ready in time: %s", last)
	case lastErr != nil:
		err = lastErr
	}
	return explain(c, "see whether the pods are ready", err)
}

// adviceOn says what to do about a rollout that does not come to its end.
func adviceOn(c *cluster, r *rollout) string {
	words := strings.Join(r.stuck, "\n")
	namespace := v1alpha1.SystemNamespace
	if r.what == "agents" {
		namespace = nodeNamespace
	}
	switch {
	case strings.Contains(words, "ImagePull"), strings.Contains(words, "ErrImage"):
		return "Make the image reachable from the nodes, or name another with --set image.repository=… and --set image.tag=…."
	case strings.Contains(words, "Unschedulable"):
		return "Make room on the nodes, or change nodeSelector, tolerations or resources in the values."
	}
	return fmt.Sprintf("Their logs and events say more: kubectl --context %s -n %s get pods; kubectl --context %[1]s -n %[2]s describe pods. The same command waits again.", c.context, namespace)
}

// whyStuck says, once each, why pods do not start.
func whyStuck(pods []corev1.Pod) []string {
	var words []string
	for i := range pods {
		if word := whyNotStarted(&pods[i]); word != "" && !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	slices.Sort(words)
	return words
}

// whyNotStarted is what keeps a pod from being ready; empty: nothing that has a name yet.
func whyNotStarted(pod *corev1.Pod) string {
	if pod.DeletionTimestamp != nil {
		return ""
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			return "Unschedulable: " + c.Message
		}
	}
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		switch waiting, ended := status.State.Waiting, status.LastTerminationState.Terminated; {
		case waiting != nil && waiting.Reason != "" && waiting.Reason != "ContainerCreating" && waiting.Reason != "PodInitializing":
			return strings.TrimSuffix(waiting.Reason+": "+waiting.Message, ": ")
		case !status.Ready && ended != nil:
			return fmt.Sprintf("%s has ended %d times, last with code %d %s", status.Name, status.RestartCount, ended.ExitCode, strings.TrimSpace(ended.Message))
		case !status.Ready && status.State.Running != nil:
			return fmt.Sprintf("%s runs and is not ready yet", status.Name)
		}
	}
	return ""
}

// awaitLeader waits until a controller has taken the Lease.
func (i *installRun) awaitLeader(ctx context.Context) error {
	var why string
	err := wait.PollUntilContextCancel(ctx, lookEvery, true, func(ctx context.Context) (bool, error) {
		lease, err := i.home.kube.CoordinationV1().Leases(v1alpha1.SystemNamespace).Get(ctx, v1alpha1.ControllerLease, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			lease, err = nil, nil
		}
		if err != nil {
			why = serverWords(err)
			return false, nil
		}
		var alive bool
		alive, why = judgeLease(lease, i.home.clock.now())
		return alive, nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return problemf(fmt.Sprintf("Its log says more: kubectl --context %s -n %s logs deploy/%s.", i.home.context, v1alpha1.SystemNamespace, controllerName),
			"no controller has begun to work in time: %s", why)
	}
	return explain(i.home, "read the controller's Lease", err)
}
