package placer

import (
	"context"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	// notTriggerScaleUp is the reason of a cluster autoscaler's Events about pods that it adds no node for.
	notTriggerScaleUp = "NotTriggerScaleUp"
	// scalingEvery is how often these Events are read, while pods wait for them: they are not watched, since nobody else needs them.
	scalingEvery = 5 * time.Second
)

// refusals is what a cluster autoscaler has said of pods that wait.
type refusals struct {
	at   time.Time // of the last look
	pods sets.Set[types.UID]
}

// look finds out which of the waiting pods get no node from a cluster autoscaler, where it goes first.
func (r *refusals) look(ctx context.Context, cfg Config, g *gathered, w *wakeup) {
	var waiting []int
	namespaces := sets.New[string]()
	for i, pod := range g.input.Pods {
		if pod.Policy >= 0 && g.input.Policies[pod.Policy].Burst.ClusterAutoscaler == v1alpha1.AutoscalerFirst && unschedulable(pod.Pod) {
			waiting = append(waiting, i)
			namespaces.Insert(pod.Namespace)
		}
	}
	if len(waiting) == 0 {
		r.pods = nil
		return
	}
	if w.now.Sub(r.at) >= scalingEvery {
		r.at, r.pods = w.now, sets.New[types.UID]()
		for _, namespace := range sets.List(namespaces) {
			r.read(ctx, cfg, namespace)
		}
	}
	for _, i := range waiting {
		g.input.Pods[i].ScaleUpRefused = r.pods.Has(g.input.Pods[i].UID)
	}
	w.at(r.at.Add(scalingEvery))
}

func (r *refusals) read(ctx context.Context, cfg Config, namespace string) {
	events, err := cfg.Client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.Set{"reason": notTriggerScaleUp, "involvedObject.kind": "Pod"}.String(),
	})
	if err != nil {
		if ctx.Err() == nil {
			cfg.Log.Warn("a cluster autoscaler's Events not read", zap.String("namespace", namespace), zap.Error(err))
		}
		return
	}
	for i := range events.Items {
		if e := &events.Items[i]; e.Reason == notTriggerScaleUp {
			r.pods.Insert(e.InvolvedObject.UID)
		}
	}
}
