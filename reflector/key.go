package reflector

import (
	"math/rand/v2"
	"time"

	"k8s.io/client-go/util/workqueue"

	"github.com/spillway-dev/spillway/internal/metrics"
)

// kind of object that a key names.
type kind string

const (
	kindPod       kind = "pod"
	kindConfigMap kind = "configmap"
	kindSecret    kind = "secret"
	kindToken     kind = "token" // the Secret with the tokens of one pod; the name is the Secret's

	kindService       kind = "service"
	kindEndpointSlice kind = "endpointslice"
	kindNetworkPolicy kind = "networkpolicy"
	kindIngress       kind = "ingress"

	kindEvent kind = "event" // of the peer; the name is the peer's, the namespace home's

	kindClaim     kind = "persistentvolumeclaim"
	kindProvision kind = "provision" // a claim of home that may need a volume; no node
	kindVolume    kind = "volume"    // a PersistentVolume of ours; no node and no namespace
)

// key names a local object on one virtual node. Namespace and name are those of the consumer.
type key struct {
	node      string
	kind      kind
	namespace string
	name      string
}

const (
	backoffMin = 5 * time.Millisecond
	backoffMax = 30 * time.Second
)

// backoff is exponential per key with jitter, so that keys that failed together do not come back together.
type backoff struct {
	workqueue.TypedRateLimiter[key]
}

// newQueue returns a work queue that is measured under its name.
func newQueue(name string) workqueue.TypedRateLimitingInterface[key] {
	return workqueue.NewTypedRateLimitingQueueWithConfig[key](newBackoff(),
		workqueue.TypedRateLimitingQueueConfig[key]{Name: name, MetricsProvider: metrics.Queues{}})
}

func newBackoff() backoff {
	return backoff{workqueue.NewTypedItemExponentialFailureRateLimiter[key](backoffMin, backoffMax)}
}

func (b backoff) When(k key) time.Duration {
	d := b.TypedRateLimiter.When(k)
	return min(d+rand.N(d/2+1), backoffMax)
}
