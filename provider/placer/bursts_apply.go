package placer

import (
	"cmp"
	"context"
	"encoding/json"
	"strings"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/peering/policy"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
	"github.com/spillway-dev/spillway/provider/placement"
)

// Reasons of Events where a Decision gives none.
const (
	reasonOverflowed    = "Overflowed"
	reasonNoPeerHasRoom = "NoPeerHasRoom"
)

const (
	// remoteDeletionCost makes controllers that scale down begin with pods in peers, where their author has no other wish.
	remoteDeletionCost = "-100"
	// deletionCost is corev1.PodDeletionCost, under the name that it has in the API.
	deletionCost = corev1.PodDeletionCost
)

// apply carries out decisions in their order. What fails is decided again.
func (b *bursts) apply(ctx context.Context, g *gathered, decisions []placement.Decision, w *wakeup) {
	var home []placement.Decision
	for _, d := range decisions {
		if b.busy(d.Pod, w) {
			continue
		}
		d.Message = sentence(d.Message)
		switch d.Action {
		case placement.Overflow:
			b.overflow(ctx, d, w.now)
		case placement.Admit:
			if b.patch(ctx, d.Pod, admitPatch(d.Pod, d.Message)) { // to stay at home is what everybody expects: no Event
				placed.WithLabelValues("admit", "").Inc()
			}
		case placement.Wait:
			b.tell(d)
		case placement.ComeHome:
			home = append(home, d)
		}
	}
	b.comeHome(ctx, g, home, w)
}

// sentence begins with a capital letter: others put it behind one of their own.
func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// busy says whether a pod is left alone for now: this pass has written it, or a write has failed.
func (b *bursts) busy(pod *corev1.Pod, w *wakeup) bool {
	_, wrote := b.wrote[pod.UID]
	at, later := b.later[pod.UID]
	w.at(at)
	return wrote || later
}

func (b *bursts) overflow(ctx context.Context, d placement.Decision, now time.Time) {
	if b.patch(ctx, d.Pod, overflowPatch(d, now)) {
		placed.WithLabelValues("overflow", d.Peer).Inc()
		b.cfg.Events.Event(d.Pod, corev1.EventTypeNormal, cmp.Or(d.Reason, reasonOverflowed), d.Message)
	}
}

// tell says why a pod waits, once for each reason.
func (b *bursts) tell(d placement.Decision) {
	if b.said[d.Pod.UID] != d.Message {
		b.said[d.Pod.UID] = d.Message
		placed.WithLabelValues("wait", "").Inc()
		b.cfg.Events.Event(d.Pod, corev1.EventTypeWarning, cmp.Or(d.Reason, reasonNoPeerHasRoom), d.Message)
	}
}

// patch changes a pod if it is still as it was when it was decided, and says whether it has.
func (b *bursts) patch(ctx context.Context, pod *corev1.Pod, change podPatch) bool {
	change.Metadata.UID, change.Metadata.ResourceVersion = pod.UID, pod.ResourceVersion
	body, err := json.Marshal(change)
	if err == nil {
		_, err = b.cfg.Client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.MergePatchType, body,
			metav1.PatchOptions{FieldManager: v1alpha1.FieldManager})
	}
	return b.done(ctx, pod, "pod not placed", err)
}

// done notes how a write of a pod went, and says whether it was made.
func (b *bursts) done(ctx context.Context, pod *corev1.Pod, failure string, err error) bool {
	now := b.cfg.Clock.Now()
	switch {
	case err == nil:
		b.wrote[pod.UID] = write{pod.ResourceVersion, now}
		return true
	case apierrors.IsNotFound(err):
	case apierrors.IsConflict(err):
		b.wrote[pod.UID] = write{pod.ResourceVersion, now} // the change is on its way to the caches
	case ctx.Err() == nil:
		b.later[pod.UID] = now.Add(failedRetry)
		b.cfg.Log.Warn(failure, zap.String("namespace", pod.Namespace), zap.String("name", pod.Name), zap.Error(err))
	}
	return false
}

// podPatch is a JSON merge patch of a pod.
type podPatch struct {
	Metadata struct {
		UID             types.UID         `json:"uid"`
		ResourceVersion string            `json:"resourceVersion"`
		Annotations     map[string]string `json:"annotations,omitempty"`
	} `json:"metadata"`
	Spec map[string]any `json:"spec,omitempty"`
}

// admitPatch opens the gate.
func admitPatch(pod *corev1.Pod, why string) podPatch {
	p := podPatch{Spec: map[string]any{"schedulingGates": otherGates(pod)}}
	p.Metadata.Annotations = map[string]string{v1alpha1.AnnotationPlacement: why}
	return p
}

// overflowPatch lets a pod onto the virtual nodes of a peer, all in one write: killed before, nothing has happened; after, everything. A
// gated pod is kept from home as well, which only gated ones can be.
func overflowPatch(d placement.Decision, now time.Time) podPatch {
	p := podPatch{Spec: map[string]any{"tolerations": policy.ToleratePeer(d.Pod.Spec.Tolerations, d.Peer)}}
	if placement.Gated(d.Pod) {
		p.Spec["schedulingGates"] = otherGates(d.Pod)
		p.Spec["nodeSelector"] = map[string]string{v1alpha1.LabelPeer: d.Peer}
	}
	sent := placement.AppendBurst(d.Pod.Annotations[v1alpha1.AnnotationBurst], d.Peer, now)
	p.Metadata.Annotations = map[string]string{v1alpha1.AnnotationBurst: sent, v1alpha1.AnnotationPlacement: d.Message}
	if _, said := d.Pod.Annotations[deletionCost]; !said {
		p.Metadata.Annotations[deletionCost] = remoteDeletionCost
	}
	return p
}
