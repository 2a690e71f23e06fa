package leader

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

const namespace, lease = "spillway-system", "spillwayd"

// world is an API server with one Lease, and replicas that have pods with addresses of their own and one port.
type world struct {
	t    *testing.T
	port uint16

	mu      sync.Mutex
	version int
	lease   *coordinationv1.Lease
	pods    map[string]*corev1.Pod
	working []string      // guarded by mu; replicas whose work runs now
	changed chan struct{} // guarded by mu; closed when working changes
}

// replica is a process.
type replica struct {
	*Candidate
	name     string
	stop     context.CancelFunc
	returned chan error
	server   *http.Server
	cut      func() // from the API server
}

func newWorld(t *testing.T) *world {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	return &world{t: t, port: uint16(port), pods: map[string]*corev1.Pod{}, changed: make(chan struct{})}
}

// client is one replica's. While cut is closed nothing is answered.
func (w *world) client(cut <-chan struct{}) *fake.Clientset {
	client := fake.NewClientset()
	client.PrependReactor("*", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
		select {
		case <-cut:
			return true, nil, fmt.Errorf("nobody answers")
		default:
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		resource := action.GetResource().GroupResource()
		switch action.GetVerb() {
		case "get":
			name := action.(clienttesting.GetAction).GetName()
			if pod := w.pods[name]; pod != nil && resource.Resource == "pods" {
				return true, pod.DeepCopy(), nil
			}
			if w.lease != nil && resource.Resource == "leases" {
				return true, w.lease.DeepCopy(), nil
			}
			return true, nil, apierrors.NewNotFound(resource, name)
		case "update":
			now := action.(clienttesting.UpdateAction).GetObject().(*coordinationv1.Lease)
			if w.lease == nil || now.ResourceVersion != w.lease.ResourceVersion {
				return true, nil, apierrors.NewConflict(resource, lease, fmt.Errorf("written by somebody else"))
			}
			return true, w.store(now), nil
		case "create":
			if w.lease != nil {
				return true, nil, apierrors.NewAlreadyExists(resource, lease)
			}
			return true, w.store(action.(clienttesting.CreateAction).GetObject().(*coordinationv1.Lease)), nil
		}
		return false, nil, nil
	})
	return client
}

// store is under mu.
func (w *world) store(l *coordinationv1.Lease) *coordinationv1.Lease {
	w.version++
	w.lease = l.DeepCopy()
	w.lease.ResourceVersion = strconv.Itoa(w.version)
	return w.lease.DeepCopy()
}

// start runs a replica whose work takes ending to end.
func (w *world) start(name, ip string, ending time.Duration) *replica {
	w.t.Helper()
	ctx, stop := context.WithCancel(w.t.Context())
	cut := make(chan struct{})
	r := &replica{
		name: name, stop: stop, returned: make(chan error, 1), cut: sync.OnceFunc(func() { close(cut) }),
		Candidate: New(Config{
			Client: w.client(cut), Namespace: namespace, Lease: lease, Identity: name, Port: w.port, Log: zap.NewNop(),
		}),
	}
	w.mu.Lock()
	w.pods[name] = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}, Status: corev1.PodStatus{PodIP: ip}}
	w.mu.Unlock()
	w.serve(r, ip)
	go func() {
		r.returned <- r.Run(ctx, func(ctx context.Context) error {
			w.note(name, true)
			defer w.note(name, false)
			<-ctx.Done()
			<-time.After(ending)
			return nil
		})
	}()
	w.t.Cleanup(func() {
		stop()
		_ = r.server.Close()
	})
	return r
}

func (w *world) serve(r *replica, ip string) {
	w.t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(ip, strconv.Itoa(int(w.port))))
	if err != nil {
		w.t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+Path, r)
	r.server = &http.Server{Handler: mux, ReadHeaderTimeout: time.Second, WriteTimeout: time.Second}
	go func() { _ = r.server.Serve(listener) }()
}

// kill is what a SIGKILL does: nothing is written any more, connections end, and nobody listens.
func (r *replica) kill() {
	r.cut()
	_ = r.server.Close()
}

// note says that work of a replica runs or has ended. Two at once are an error.
func (w *world) note(name string, works bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if works {
		w.working = append(w.working, name)
	} else {
		for i, other := range w.working {
			if other == name {
				w.working = append(w.working[:i:i], w.working[i+1:]...)
				break
			}
		}
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

// await waits until work of these replicas runs, and of no others, and returns how long that took.
func (w *world) await(within time.Duration, want ...string) time.Duration {
	w.t.Helper()
	began, late := time.Now(), time.After(within)
	for {
		w.mu.Lock()
		now, changed := fmt.Sprint(w.working), w.changed
		w.mu.Unlock()
		if now == fmt.Sprint(want) {
			return time.Since(began)
		}
		select {
		case <-changed:
		case <-late:
			w.t.Fatalf("after %s %s work, want %s", within, now, want)
		}
	}
}

// followed waits until somebody waits for the end of a replica's term.
func (w *world) followed(r *replica) {
	w.t.Helper()
	late := time.After(10 * time.Second)
	for {
		r.mu.Lock()
		held := r.held
		r.mu.Unlock()
		if held > 0 {
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-late:
			w.t.Fatalf("nobody follows %s", r.name)
		}
	}
}
