package peering

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	// misfitsEvery is how often the pods of policies are counted, beside when a policy changes.
	misfitsEvery = 5 * time.Second
	// evictShare is which part of its pods a policy may move at once: one in so many.
	evictShare = 10
)

// misfits keeps the status of OffloadPolicies, and moves the pods that no longer fit, when told to.
type misfits struct {
	cfg     *Config
	changed chan struct{} // has one when a policy has changed
}

func newMisfits(cfg *Config) *misfits { return &misfits{cfg: cfg, changed: make(chan struct{}, 1)} }

func (m *misfits) wake(string) {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// run counts until ctx ends.
func (m *misfits) run(ctx context.Context) {
	defer m.cfg.Policies.Notify(m.wake)()
	ticker := time.NewTicker(misfitsEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-m.changed:
		}
		m.pass(ctx)
	}
}

// pass looks at every policy once.
func (m *misfits) pass(ctx context.Context) {
	policies := m.cfg.Policies.cache.List()
	if !m.cfg.Policies.Synced() || len(policies) == 0 {
		return
	}
	pods, complete := m.cfg.Nodes.Pods()
	if !complete {
		return
	}
	byNamespace := map[string][]*corev1.Pod{}
	for _, pod := range pods {
		byNamespace[pod.Namespace] = append(byNamespace[pod.Namespace], pod)
	}
	for _, p := range policies {
		namespace, ok := m.cfg.Nodes.Namespace(p.Namespace)
		if !ok || p.DeletionTimestamp != nil {
			continue
		}
		c := m.count(p, namespace, byNamespace[p.Namespace])
		if err := m.write(ctx, p, c.status(p, m.cfg.Policies.Set(p.Namespace).Problem(p.Name), metav1.Now())); err != nil {
			m.cfg.Log.Warn("status of an OffloadPolicy not written", zap.String("namespace", p.Namespace), zap.String("name", p.Name), zap.Error(err))
		}
		if p.Spec.Misfits == v1alpha1.MisfitsEvict {
			m.evict(ctx, c)
		}
	}
}

// governed are the pods of a policy that run in peers.
type governed struct {
	all   int
	wrong []misfit // by name
}

type misfit struct {
	pod *corev1.Pod
	why string
}

func (m *misfits) count(p *v1alpha1.OffloadPolicy, namespace *corev1.Namespace, pods []*corev1.Pod) governed {
	var g governed
	for _, pod := range pods {
		verdict, sure := m.cfg.Policies.judge(namespace, pod, pod.Spec.NodeName)
		if verdict.Policy != p.Name || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		g.all++
		if verdict.Refusal != "" && sure {
			g.wrong = append(g.wrong, misfit{pod, verdict.Refusal})
		}
	}
	slices.SortFunc(g.wrong, func(a, b misfit) int { return cmp.Compare(a.pod.Name, b.pod.Name) })
	return g
}

// status is what a policy should say.
func (g governed) status(p *v1alpha1.OffloadPolicy, problem string, now metav1.Time) v1alpha1.OffloadPolicyStatus {
	s := *p.Status.DeepCopy()
	s.ObservedGeneration, s.RemotePods, s.MisfitCount, s.Misfits = p.Generation, int32(g.all), int32(len(g.wrong)), nil
	for _, w := range g.wrong[:min(len(g.wrong), v1alpha1.MaxMisfits)] {
		s.Misfits = append(s.Misfits, v1alpha1.Misfit{Pod: w.pod.Name, Node: w.pod.Spec.NodeName, Message: w.why})
	}
	fits := metav1.Condition{
		Type: v1alpha1.ConditionFits, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAllFit, ObservedGeneration: p.Generation,
		Message: "every pod of this policy that runs in a peer may run there", LastTransitionTime: now,
	}
	switch {
	case problem != "":
		fits.Status, fits.Reason, fits.Message = metav1.ConditionFalse, v1alpha1.ReasonSelectorInvalid, problem
	case len(g.wrong) > 0:
		fits.Status, fits.Reason = metav1.ConditionFalse, v1alpha1.ReasonMisfits
		fits.Message = fmt.Sprintf("%d of %d pods run where this policy does not let them: set spec.misfits to Evict to have them moved, or delete them",
			len(g.wrong), g.all)
		if p.Spec.Misfits == v1alpha1.MisfitsEvict {
			fits.Message = fmt.Sprintf("%d of %d pods run where this policy does not let them, and are being moved", len(g.wrong), g.all)
		}
	}
	meta.SetStatusCondition(&s.Conditions, fits)
	return s
}

// write writes the status if it differs.
func (m *misfits) write(ctx context.Context, p *v1alpha1.OffloadPolicy, s v1alpha1.OffloadPolicyStatus) error {
	if apiequality.Semantic.DeepEqual(p.Status, s) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": p.ResourceVersion}, // conditions that others have written since stay
		"status": struct {
			v1alpha1.OffloadPolicyStatus `json:",inline"`
			Misfits                      []v1alpha1.Misfit `json:"misfits"` // null takes the list away
		}{s, s.Misfits},
	})
	if err != nil {
		return err
	}
	_, err = m.cfg.Policies.client(p.Namespace).Patch(ctx, p.Name, types.MergePatchType, patch,
		metav1.PatchOptions{FieldManager: v1alpha1.FieldManager}, "status")
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // in the next pass, with what is there then
	}
	return err
}

// evict moves some of the misfits. A PodDisruptionBudget that holds one back is asked again in the next pass.
func (m *misfits) evict(ctx context.Context, g governed) {
	left := max(1, g.all/evictShare)
	for _, w := range g.wrong {
		if w.pod.DeletionTimestamp != nil {
			left--
		}
	}
	for _, w := range g.wrong {
		if left <= 0 {
			return
		}
		if w.pod.DeletionTimestamp != nil {
			continue
		}
		err := m.cfg.Client.PolicyV1().Evictions(w.pod.Namespace).Evict(ctx, &policyv1.Eviction{
			ObjectMeta:    metav1.ObjectMeta{Name: w.pod.Name, Namespace: w.pod.Namespace},
			DeleteOptions: &metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(w.pod.UID))},
		})
		switch {
		case err == nil:
			left--
		case apierrors.IsNotFound(err), apierrors.IsConflict(err), apierrors.IsTooManyRequests(err):
		default:
			m.cfg.Log.Warn("pod not moved", zap.String("namespace", w.pod.Namespace), zap.String("name", w.pod.Name), zap.Error(err))
		}
	}
}
