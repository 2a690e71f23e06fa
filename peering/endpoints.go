package peering

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"

	"github.com/spillway-dev/spillway/internal/live"
	"github.com/spillway-dev/spillway/internal/metrics"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// managerEndpoints writes the conditions of reflected endpoints. It is another than that of consumers, which would take
// what it wrote for their own.
const managerEndpoints = "spillway-provider"

// indexOrigin files EndpointSlices under the consumer's cluster id.
const indexOrigin = "origin"

// farEndpoints are the endpoints at home of the consumers of this cluster, as they reflected them. While the tunnel to a
// consumer is down nobody reaches them, and the consumer cannot say so: this provider then turns them not ready, and back.
type farEndpoints struct {
	client kubernetes.Interface
	log    *zap.Logger
	slices *live.Cache[*discoveryv1.EndpointSlice]
	queue  workqueue.TypedRateLimitingInterface[types.NamespacedName]

	mu   sync.Mutex
	lost map[string]bool // guarded by mu; by cluster id
}

func newFarEndpoints(client kubernetes.Interface, log *zap.Logger) *farEndpoints {
	f := &farEndpoints{
		client: client, log: log, lost: map[string]bool{},
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](20*time.Millisecond, 10*time.Second),
			workqueue.TypedRateLimitingQueueConfig[types.NamespacedName]{Name: "endpoints", MetricsProvider: metrics.Queues{}}),
	}
	reflected := labels.Set{discoveryv1.LabelManagedBy: v1alpha1.ManagedBySpillway}.String()
	f.slices = live.New(live.Options[*discoveryv1.EndpointSlice]{
		Name:      "reflected endpointslices",
		ListWatch: live.ListWatch(client, client.DiscoveryV1().EndpointSlices(""), func(o *metav1.ListOptions) { o.LabelSelector = reflected }),
		Indexers: cache.Indexers{indexOrigin: func(obj any) ([]string, error) {
			return []string{obj.(*discoveryv1.EndpointSlice).Labels[v1alpha1.LabelOrigin]}, nil
		}},
		Changed: func(_, now *discoveryv1.EndpointSlice) {
			if now != nil {
				f.queue.Add(types.NamespacedName{Namespace: now.Namespace, Name: now.Name})
			}
		},
	})
	return f
}

// set says whether the tunnel to a consumer is down. It does not block.
func (f *farEndpoints) set(origin string, lost bool) {
	f.mu.Lock()
	changed := f.lost[origin] != lost
	if lost {
		f.lost[origin] = true
	} else {
		delete(f.lost, origin)
	}
	f.mu.Unlock()
	if !changed {
		return
	}
	for _, s := range f.slices.Index(indexOrigin, origin) {
		f.queue.Add(types.NamespacedName{Namespace: s.Namespace, Name: s.Name})
	}
}

func (f *farEndpoints) isLost(origin string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lost[origin]
}

// run works until ctx ends; it returns when its goroutines have.
func (f *farEndpoints) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { f.slices.Run(ctx) })
	for range 4 {
		wg.Go(func() {
			for f.work(ctx) {
			}
		})
	}
	<-ctx.Done()
	f.queue.ShutDown()
	wg.Wait()
}

func (f *farEndpoints) work(ctx context.Context) bool {
	name, quit := f.queue.Get()
	if quit {
		return false
	}
	defer f.queue.Done(name)
	if err := f.sync(ctx, name); err != nil && ctx.Err() == nil {
		f.log.Debug("endpoints of a consumer not judged", zap.Stringer("endpointslice", name), zap.Error(err))
		f.queue.AddRateLimited(name)
		return true
	}
	f.queue.Forget(name)
	return true
}

func (f *farEndpoints) sync(ctx context.Context, name types.NamespacedName) error {
	have, ok := f.slices.Get(name.Namespace, name.Name)
	if !ok {
		return nil
	}
	patch, err := judgeEndpoints(have, f.isLost(have.Labels[v1alpha1.LabelOrigin]))
	if patch == nil || err != nil {
		return err
	}
	_, err = f.client.DiscoveryV1().EndpointSlices(name.Namespace).Patch(ctx, name.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: managerEndpoints})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("patch EndpointSlice %s: %w", name, err)
	}
	return nil
}

// judgeEndpoints returns the patch that makes a reflected slice tell what can be reached; nil when it does. What the
// consumer last said is kept in an annotation meanwhile.
func judgeEndpoints(have *discoveryv1.EndpointSlice, lost bool) ([]byte, error) {
	said, marked := have.Annotations[v1alpha1.AnnotationEndpointsSaid]
	if marked == lost {
		return nil, nil
	}
	var conditions []discoveryv1.EndpointConditions
	var keep any // null removes the annotation
	if lost {
		for _, e := range have.Endpoints {
			conditions = append(conditions, e.Conditions)
		}
		text, err := json.Marshal(conditions)
		if err != nil {
			return nil, fmt.Errorf("keep the conditions of EndpointSlice %s: %w", have.Name, err)
		}
		keep = string(text)
	} else if json.Unmarshal([]byte(said), &conditions) != nil || len(conditions) != len(have.Endpoints) {
		conditions = nil // somebody changed it; the consumer puts it right
	}
	endpoints := have.DeepCopy().Endpoints
	for i := range endpoints {
		switch {
		case lost:
			endpoints[i].Conditions = discoveryv1.EndpointConditions{Ready: ptr.To(false), Serving: ptr.To(false), Terminating: conditions[i].Terminating}
		case conditions != nil:
			endpoints[i].Conditions = conditions[i]
		}
	}
	return json.Marshal(map[string]any{
		"metadata": map[string]any{
			"resourceVersion": have.ResourceVersion, "annotations": map[string]any{v1alpha1.AnnotationEndpointsSaid: keep},
		},
		"endpoints": endpoints,
	})
}

// tunnelDown says that the condition of a Peering has found the tunnel down; that it is not known yet is no reason.
func tunnelDown(conditions []metav1.Condition) bool {
	return meta.IsStatusConditionFalse(conditions, v1alpha1.ConditionTunnelUp)
}
