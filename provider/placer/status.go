package placer

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
	"github.com/spillway-dev/spillway/peering/v1alpha1/client"
	"github.com/spillway-dev/spillway/provider/placement"
)

// statusEvery is how often the status of one policy is written at most: at a peak its figures change with every pod.
const statusEvery = time.Second

// statuses writes the conditions Bursting and ComingHome, server-side applied under a manager of their own: the list is also another
// loop's, whose condition stays as it is.
type statuses struct {
	client  func(namespace string) client.Policies
	written map[types.UID]status
}

// status is what was last written.
type status struct {
	conditions []metav1.Condition
	at         time.Time
	cleared    bool
}

func newStatuses(policies func(namespace string) client.Policies) *statuses {
	return &statuses{client: policies, written: map[types.UID]status{}}
}

// write writes what differs. It returns when to come again if it is too early; else zero.
func (s *statuses) write(ctx context.Context, p *v1alpha1.OffloadPolicy, wanted []metav1.Condition, now time.Time) (again time.Time, err error) {
	last, known := s.written[p.UID]
	if !known {
		seen, err := s.client(p.Namespace).Get(ctx, p.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return time.Time{}, nil
		}
		if err != nil {
			return time.Time{}, fmt.Errorf("get OffloadPolicy %s/%s: %w", p.Namespace, p.Name, err)
		}
		last.conditions = ours(seen.Status.Conditions)
	}
	next := slices.Clone(last.conditions)
	for _, c := range wanted {
		c.ObservedGeneration, c.LastTransitionTime = p.Generation, metav1.NewTime(now.Truncate(time.Second))
		meta.SetStatusCondition(&next, c)
	}
	if apiequality.Semantic.DeepEqual(last.conditions, next) {
		s.written[p.UID] = status{conditions: next, at: last.at}
		return time.Time{}, nil
	}
	if early := last.at.Add(statusEvery); now.Before(early) {
		return early, nil
	}
	if err := s.apply(ctx, p, next); err != nil {
		return time.Time{}, err
	}
	s.written[p.UID] = status{conditions: next, at: now}
	return time.Time{}, nil
}

// clear takes the conditions from a policy that once had when: Burst.
func (s *statuses) clear(ctx context.Context, p *v1alpha1.OffloadPolicy) error {
	last, known := s.written[p.UID]
	if last.cleared || !known && len(ours(p.Status.Conditions)) == 0 {
		return nil
	}
	if err := s.apply(ctx, p, []metav1.Condition{}); err != nil {
		return err
	}
	s.written[p.UID] = status{cleared: true}
	return nil
}

// apply has the API server keep these conditions and no others of this manager.
func (s *statuses) apply(ctx context.Context, p *v1alpha1.OffloadPolicy, conditions []metav1.Condition) error {
	body, err := json.Marshal(map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": "OffloadPolicy",
		"metadata": map[string]any{"name": p.Name, "namespace": p.Namespace, "uid": p.UID},
		"status":   map[string]any{"conditions": conditions},
	})
	if err != nil {
		return err
	}
	force := true
	_, err = s.client(p.Namespace).Patch(ctx, p.Name, types.ApplyPatchType, body,
		metav1.PatchOptions{FieldManager: v1alpha1.FieldManagerBurst, Force: &force}, "status")
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // it is gone, or another one of that name
	}
	if err != nil {
		return fmt.Errorf("apply the status of OffloadPolicy %s/%s: %w", p.Namespace, p.Name, err)
	}
	return nil
}

// keep forgets policies that are gone.
func (s *statuses) keep(policies ...[]*v1alpha1.OffloadPolicy) {
	there := sets.New[types.UID]()
	for _, p := range slices.Concat(policies...) {
		there.Insert(p.UID)
	}
	maps.DeleteFunc(s.written, func(uid types.UID, _ status) bool { return !there.Has(uid) })
}

// ours are the conditions that this package writes.
func ours(all []metav1.Condition) []metav1.Condition {
	var out []metav1.Condition
	for _, c := range all {
		if c.Type == v1alpha1.ConditionBursting || c.Type == v1alpha1.ConditionComingHome {
			out = append(out, c)
		}
	}
	return out
}

// conditions is what a policy's status says. closed says why no pod of its namespace may leave; empty: they may.
func conditions(s placement.State, closed string) []metav1.Condition {
	bursting := metav1.Condition{
		Type: v1alpha1.ConditionBursting, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonAtHome,
		Message: fmt.Sprintf("%s at home, none in peers", pods(s.Home)),
	}
	away := 0
	var where []string
	for _, peer := range slices.Sorted(maps.Keys(s.Peers)) {
		if n := s.Peers[peer]; n > 0 {
			away += n
			where = append(where, fmt.Sprintf("%s %d", peer, n))
		}
	}
	if away > 0 {
		bursting.Status, bursting.Reason = metav1.ConditionTrue, v1alpha1.ReasonOverflowed
		bursting.Message = fmt.Sprintf("%s at home, %d in peers (%s)", pods(s.Home), away, strings.Join(where, ", "))
	}
	if s.Pending > 0 {
		bursting.Message += fmt.Sprintf("; %d without a place", s.Pending)
	}
	if why := cmp.Or(closed, s.Waiting); why != "" && (s.Pending > 0 || closed != "") {
		bursting.Message += ": " + why
	}
	return []metav1.Condition{bursting, comingHome(s, away)}
}

func comingHome(s placement.State, away int) metav1.Condition {
	c := metav1.Condition{
		Type: v1alpha1.ConditionComingHome, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonHeld, Message: s.Held,
	}
	switch {
	case s.Returning > 0:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, v1alpha1.ReasonReturning, fmt.Sprintf("%s on their way home", pods(s.Returning))
	case s.Returnable > 0:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, v1alpha1.ReasonReturning, fmt.Sprintf("%s can come home", pods(s.Returnable))
	case away == 0:
		c.Reason, c.Message = v1alpha1.ReasonNothingToReturn, "no pod of this policy is in a peer"
	case s.Held == "":
		c.Reason, c.Message = v1alpha1.ReasonNothingToReturn, "none of the pods in peers can come home: those can that overflowed, run, have no claim, and have a controller that makes others"
	}
	return c
}

func pods(n int) string {
	if n == 1 {
		return "1 pod"
	}
	return fmt.Sprintf("%d pods", n)
}
