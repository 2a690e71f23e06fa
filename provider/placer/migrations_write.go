package placer

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
	"github.com/spillway-dev/spillway/provider/placement"
)

// write writes a status over the one that it was made from, and returns the Migration with it.
func (m *migrations) write(ctx context.Context, mg *v1alpha1.Migration, status v1alpha1.MigrationStatus) (*v1alpha1.Migration, error) {
	patch, err := statusPatch(mg, status)
	if err != nil {
		return nil, err
	}
	now, err := m.client(mg.Namespace).Patch(ctx, mg.Name, types.MergePatchType, patch,
		metav1.PatchOptions{FieldManager: v1alpha1.FieldManager}, "status")
	if err != nil {
		return nil, fmt.Errorf("patch status of migration %s/%s: %w", mg.Namespace, mg.Name, err)
	}
	over := []string{mg.ResourceVersion}
	if w, ok := m.written[mg.UID]; ok && w.is == mg {
		over = append(w.over, mg.ResourceVersion) // the cache has not shown that one either
	}
	m.written[mg.UID] = writtenStatus{over: over, is: now}
	return now, nil
}

// statusPatch is a merge patch from the status that a Migration has to another; what is not in that one is taken away.
func statusPatch(mg *v1alpha1.Migration, status v1alpha1.MigrationStatus) ([]byte, error) {
	fields := func(s v1alpha1.MigrationStatus) (map[string]any, error) {
		out := map[string]any{}
		text, err := json.Marshal(s)
		if err != nil {
			return nil, fmt.Errorf("write status of migration %s/%s: %w", mg.Namespace, mg.Name, err)
		}
		return out, json.Unmarshal(text, &out)
	}
	before, err := fields(mg.Status)
	if err != nil {
		return nil, err
	}
	after, err := fields(status)
	if err != nil {
		return nil, err
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			after[name] = nil
		}
	}
	return json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": mg.ResourceVersion, "uid": mg.UID}, "status": after,
	})
}

// tell tells people what has changed.
func (m *migrations) tell(before, now *v1alpha1.Migration, view placement.MigrationView) {
	ref := &corev1.ObjectReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Migration",
		Namespace: now.Namespace, Name: now.Name, UID: now.UID, ResourceVersion: now.ResourceVersion}
	if before.Status.StartTime == nil && now.Status.StartTime != nil && view.Verdict != nil {
		for _, warning := range view.Verdict.Warnings {
			m.cfg.Events.Event(ref, corev1.EventTypeWarning, "Careful", warning)
		}
	}
	gate := meta.FindStatusCondition(now.Status.Conditions, v1alpha1.ConditionGateHolds)
	old := meta.FindStatusCondition(before.Status.Conditions, v1alpha1.ConditionGateHolds)
	if gate != nil && gate.Status != metav1.ConditionUnknown && (old == nil || old.Message != gate.Message) {
		kind, reason := corev1.EventTypeNormal, "GateHolds"
		if gate.Status == metav1.ConditionFalse {
			kind, reason = corev1.EventTypeWarning, "GateFailed"
		}
		migrationGates.WithLabelValues(verdictOf(gate.Status)).Inc()
		m.cfg.Events.Event(ref, kind, reason, gate.Message)
	}
	if before.Status.Phase != now.Status.Phase || before.Status.Step != now.Status.Step {
		migrationSteps.WithLabelValues(string(now.Status.Phase)).Inc()
		m.cfg.Events.Event(ref, eventType(now.Status), string(now.Status.Phase), now.Status.Message)
	}
}

func eventType(s v1alpha1.MigrationStatus) string {
	warn := []v1alpha1.MigrationPhase{v1alpha1.MigrationRefused, v1alpha1.MigrationRollingBack, v1alpha1.MigrationRolledBack, v1alpha1.MigrationPaused}
	if slices.Contains(warn, s.Phase) {
		return corev1.EventTypeWarning
	}
	return corev1.EventTypeNormal
}

// verdict judges a Migration that has not begun; nil when that is not possible now.
func (m *migrations) verdict(ctx context.Context, mg *v1alpha1.Migration, around surroundings) *placement.Verdict {
	now := m.cfg.Clock.Now()
	if at, ok := m.asked[mg.UID]; ok && now.Sub(at) < checkAgain {
		return nil
	}
	in, err := m.gather(ctx, mg, around)
	if err != nil {
		m.asked[mg.UID] = now
		if ctx.Err() == nil {
			m.cfg.Log.Warn("migration not judged", zap.String("namespace", mg.Namespace), zap.String("name", mg.Name), zap.Error(err))
		}
		return nil
	}
	v := placement.Check(in)
	if m.cfg.Unsteered != "" {
		v.Refusals = append(v.Refusals, m.cfg.Unsteered)
	}
	if len(v.Refusals) == 0 {
		v.Refusals = m.gates.reach(ctx, mg)
	}
	if ctx.Err() != nil {
		return nil // what could not be asked says nothing
	}
	return &v
}

// gather reads what a Migration is judged by. It is read once for each, and not from caches: a refusal is
// final, and what was applied together with the Migration must be there.
func (m *migrations) gather(ctx context.Context, mg *v1alpha1.Migration, around surroundings) (placement.MigrationInput, error) {
	in := placement.MigrationInput{
		Name: mg.Name, Spec: mg.Spec, Nodes: m.seen.Nodes(), Pods: m.seen.Pods(), Policy: m.cfg.Policies.Set(mg.Namespace).For,
	}
	for _, other := range around.all {
		if other.Namespace == mg.Namespace {
			in.Others = append(in.Others, other)
		}
	}
	ns, opts := mg.Namespace, metav1.ListOptions{}
	var err error
	if in.Namespace, err = m.cfg.Client.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{}); err != nil {
		return in, fmt.Errorf("get namespace %s: %w", ns, err)
	}
	deployments, err := m.cfg.Client.AppsV1().Deployments(ns).List(ctx, opts)
	if err != nil {
		return in, fmt.Errorf("list deployments of %s: %w", ns, err)
	}
	sets, err := m.cfg.Client.AppsV1().StatefulSets(ns).List(ctx, opts)
	if err != nil {
		return in, fmt.Errorf("list statefulsets of %s: %w", ns, err)
	}
	crons, err := m.cfg.Client.BatchV1().CronJobs(ns).List(ctx, opts)
	if err != nil {
		return in, fmt.Errorf("list cronjobs of %s: %w", ns, err)
	}
	budgets, err := m.cfg.Client.PolicyV1().PodDisruptionBudgets(ns).List(ctx, opts)
	if err != nil {
		return in, fmt.Errorf("list poddisruptionbudgets of %s: %w", ns, err)
	}
	services, err := m.cfg.Client.CoreV1().Services(ns).List(ctx, opts)
	if err != nil {
		return in, fmt.Errorf("list services of %s: %w", ns, err)
	}
	in.Deployments, in.StatefulSets, in.CronJobs = deployments.Items, sets.Items, crons.Items
	in.Budgets, in.Services = budgets.Items, services.Items
	return in, nil
}

// assign opens the gates of pods that wait to be told where they go.
func (m *migrations) assign(ctx context.Context, mg *v1alpha1.Migration, mine []placement.Workload) {
	mine = slices.DeleteFunc(slices.Clone(mine), m.outdated)
	for _, a := range placement.Assign(mg, mine) {
		patch, err := assignPatch(a)
		if err == nil {
			_, err = m.cfg.Client.CoreV1().Pods(a.Pod.Namespace).Patch(ctx, a.Pod.Name, types.MergePatchType, patch,
				metav1.PatchOptions{FieldManager: v1alpha1.FieldManager})
		}
		switch {
		case err == nil:
			m.touched[a.Pod.UID] = touchedPod{a.Pod.ResourceVersion, m.cfg.Clock.Now()}
			m.cfg.Events.Event(a.Pod, corev1.EventTypeNormal, "Assigned", a.Why)
		case !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) && ctx.Err() == nil:
			m.cfg.Log.Warn("pod not assigned", zap.String("namespace", a.Pod.Namespace), zap.String("name", a.Pod.Name), zap.Error(err))
		}
	}
}
