package placer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
	"github.com/spillway-dev/spillway/provider/placement"
)

// Reasons of the Events on pods that are moved.
const (
	ReasonMoving = "Moving" // it leaves, or another one is made elsewhere first
	ReasonMoved  = "Moved"  // the other one is Ready, and this one ends
	ReasonStays  = "Stays"  // it does not leave after all
)

// costOfInstead is the deletion cost of a pod that its ReplicaSet should end before all others.
const costOfInstead = "-1000000"

// NewMover returns a Mover that writes with client and tells events what it did.
func NewMover(client kubernetes.Interface, events record.EventRecorder) Mover {
	return &mover{client: client, events: events}
}

type mover struct {
	client kubernetes.Interface
	events record.EventRecorder
}

// Move carries out one move. A pod that is gone, is another one by now, or is not as it was seen, is no error: the next look says what is
// to be done.
func (m *mover) Move(ctx context.Context, move placement.Move) (refused bool, err error) {
	switch move.Kind {
	case placement.Release:
		return false, m.release(ctx, move)
	case placement.Restore:
		return false, m.restore(ctx, move)
	case placement.Evict:
		return m.evict(ctx, move)
	}
	return false, fmt.Errorf("move pod %s/%s: unknown kind of move %q", move.Pod.Namespace, move.Pod.Name, move.Kind)
}

// release changes the label that makes a pod one of its ReplicaSet's. The ReplicaSet takes its owner reference off and makes another pod;
// Services still select this one, since their selectors do not have that label.
func (m *mover) release(ctx context.Context, move placement.Move) error {
	if move.Moving == nil {
		return fmt.Errorf("release pod %s/%s: nothing to write on it", move.Pod.Namespace, move.Pod.Name)
	}
	owner := metav1.GetControllerOfNoCopy(move.Pod)
	if owner == nil {
		return nil // let go of already, and the cache is late
	}
	moving, err := json.Marshal(move.Moving)
	if err != nil {
		return fmt.Errorf("release pod %s/%s: %w", move.Pod.Namespace, move.Pod.Name, err)
	}
	done, err := m.patch(ctx, move.Pod, metadata{
		Labels: map[string]*string{
			appsv1.DefaultDeploymentUniqueLabelKey: new(move.Moving.Hash + placement.MovingSuffix),
			v1alpha1.LabelMoving:                   new(string(owner.UID)),
		},
		Annotations: map[string]*string{
			v1alpha1.AnnotationMoving: new(string(moving)), v1alpha1.AnnotationPlacement: new(move.Why),
		},
	})
	if done {
		m.events.Event(move.Pod, corev1.EventTypeNormal, ReasonMoving,
			fmt.Sprintf("It goes to %s once another pod is Ready instead of it. %s", placeText(move.Moving.To), move.Why))
	}
	return err
}

// restore gives a pod its label back. The pod that should go instead is marked first: a ReplicaSet sees both in this order.
func (m *mover) restore(ctx context.Context, move placement.Move) error {
	hash, released := strings.CutSuffix(move.Pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey], placement.MovingSuffix)
	if !released {
		return nil
	}
	if move.Instead != nil && move.Instead.Annotations[corev1.PodDeletionCost] != costOfInstead {
		_, err := m.patch(ctx, move.Instead, metadata{Annotations: map[string]*string{corev1.PodDeletionCost: new(costOfInstead)}})
		if err != nil {
			return err
		}
	}
	done, err := m.patch(ctx, move.Pod, metadata{
		Labels:      map[string]*string{appsv1.DefaultDeploymentUniqueLabelKey: &hash, v1alpha1.LabelMoving: nil},
		Annotations: map[string]*string{v1alpha1.AnnotationMoving: nil, v1alpha1.AnnotationPlacement: new(move.Why)},
	})
	if done {
		m.events.Event(move.Pod, corev1.EventTypeNormal, ReasonStays, move.Why)
	}
	return err
}

// evict asks for the end of a pod that is as it was seen: one that was not Ready may serve by now, one that was let go of may have been taken
// back, and then it would be one too many. It is looked at first, since an eviction that fails by its precondition costs the budget a pod for
// two minutes (PodDisruptionBudgetStatus.disruptedPods).
func (m *mover) evict(ctx context.Context, move placement.Move) (refused bool, err error) {
	pod := move.Pod
	is, err := m.client.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && !asSeen(is, pod) {
		return false, nil // a cache that is late
	}
	if err != nil {
		return false, fmt.Errorf("get pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	err = m.client.PolicyV1().Evictions(pod.Namespace).Evict(ctx, &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &is.UID, ResourceVersion: &is.ResourceVersion}},
	})
	switch {
	case err == nil && pod.Labels[v1alpha1.LabelMoving] != "":
		m.events.Event(pod, corev1.EventTypeNormal, ReasonMoved, move.Why)
		return false, nil
	case err == nil:
		m.events.Event(pod, corev1.EventTypeNormal, ReasonMoving, "It ends here, and its controller makes another one. "+move.Why)
		return false, nil
	case apierrors.IsTooManyRequests(err), apierrors.IsConflict(err): // changed this moment: nobody else may wake us
		return true, nil
	case apierrors.IsNotFound(err):
		return false, nil
	}
	return false, fmt.Errorf("evict pod %s/%s: %w", pod.Namespace, pod.Name, err)
}

// asSeen says that a pod is what a move was decided by.
func asSeen(is, seen *corev1.Pod) bool {
	return is.UID == seen.UID && is.DeletionTimestamp == nil && placement.Ready(is) == placement.Ready(seen) &&
		is.Labels[v1alpha1.LabelMoving] == seen.Labels[v1alpha1.LabelMoving]
}

// metadata is what a merge patch changes; nil takes a label or an annotation away.
type metadata struct {
	UID         types.UID          `json:"uid"`
	Labels      map[string]*string `json:"labels,omitempty"`
	Annotations map[string]*string `json:"annotations,omitempty"`
}

// patch changes a pod if it is still this one, and says whether it did.
func (m *mover) patch(ctx context.Context, pod *corev1.Pod, meta metadata) (done bool, err error) {
	meta.UID = pod.UID
	body, err := json.Marshal(map[string]metadata{"metadata": meta})
	if err != nil {
		return false, fmt.Errorf("patch pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	_, err = m.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.MergePatchType, body,
		metav1.PatchOptions{FieldManager: v1alpha1.FieldManager})
	if isGone(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("patch pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return true, nil
}

// isGone says that there is no such pod any more, or that the pod of this name is another one, or not as it was seen. An API server calls
// it invalid to patch the UID that an object has.
func isGone(err error) bool {
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return true
	}
	var status apierrors.APIStatus
	if !apierrors.IsInvalid(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	return slices.ContainsFunc(status.Status().Details.Causes, func(c metav1.StatusCause) bool { return c.Field == "metadata.uid" })
}

func placeText(place string) string {
	if place == placement.Home {
		return "a node of this cluster"
	}
	return place
}
