package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"github.com/spillway-dev/spillway/internal/live"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// perSlice is how many endpoints the controller of Kubernetes puts into one EndpointSlice.
const perSlice = 100

// bed are two peered clusters, with a watch on what reaches the second.
type bed struct {
	home, peer kubernetes.Interface
	remote     string // the tenant namespace

	mu      sync.Mutex
	waiting map[string]chan time.Time // by name of a Service or EndpointSlice, guarded by mu
}

// watch tells waiting when something has come.
func (b *bed) watch(ctx context.Context) error {
	b.waiting = map[string]chan time.Time{}
	ours := labels.Set{discoveryv1.LabelManagedBy: v1alpha1.ManagedBySpillway}.String()
	slices := live.New(live.Options[*discoveryv1.EndpointSlice]{
		Name:      "slices",
		ListWatch: live.ListWatch(b.peer, b.peer.DiscoveryV1().EndpointSlices(b.remote), func(o *metav1.ListOptions) { o.LabelSelector = ours }),
		Changed: func(before, now *discoveryv1.EndpointSlice) {
			if before == nil {
				b.came(now.Name)
			}
		},
	})
	services := live.New(live.Options[*corev1.Service]{
		Name: "services", ListWatch: live.ListWatch(b.peer, b.peer.CoreV1().Services(b.remote), nil),
		Changed: func(before, now *corev1.Service) {
			if before == nil {
				b.came(now.Name)
			}
		},
	})
	go slices.Run(ctx)
	go services.Run(ctx)
	for _, synced := range []<-chan struct{}{slices.Synced(), services.Synced()} {
		select {
		case <-synced:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (b *bed) came(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.waiting[name]; c != nil {
		c <- time.Now()
		delete(b.waiting, name)
	}
}

func (b *bed) expect(name string) <-chan time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := make(chan time.Time, 1)
	b.waiting[name] = c
	return c
}

// one makes a Service with that many endpoints and returns how long it took from before the call that makes its last object
// until all of it was at the provider.
func (b *bed) one(ctx context.Context, name string, endpoints int) (time.Duration, error) {
	arrivals := []<-chan time.Time{b.expect(name)}
	list := slicesOf(name, endpoints)
	for _, s := range list {
		arrivals = append(arrivals, b.expect(s.Name))
	}
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	if _, err := b.home.CoreV1().Services(namespace).Create(ctx, svc, metav1.CreateOptions{}); err != nil {
		return 0, fmt.Errorf("create Service %s: %w", name, err)
	}
	var begun time.Time
	for _, s := range list {
		begun = time.Now()
		if _, err := b.home.DiscoveryV1().EndpointSlices(namespace).Create(ctx, s, metav1.CreateOptions{}); err != nil {
			return 0, fmt.Errorf("create EndpointSlice %s: %w", s.Name, err)
		}
	}
	var last time.Time
	for _, c := range arrivals {
		select {
		case at := <-c:
			if at.After(last) {
				last = at
			}
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return last.Sub(begun), nil
}

// slicesOf are the EndpointSlices of a Service, as the controller of Kubernetes makes them.
func slicesOf(service string, endpoints int) []*discoveryv1.EndpointSlice {
	var out []*discoveryv1.EndpointSlice
	addr := netip.MustParseAddr("10.9.0.1")
	for endpoints > 0 {
		s := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", service, len(out)), Labels: map[string]string{discoveryv1.LabelServiceName: service}},
			AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Port: ptr.To(int32(80))}},
		}
		for range min(endpoints, perSlice) {
			addr = addr.Next()
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{addr.String()}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)}, NodeName: ptr.To("east-node-1"),
			})
		}
		endpoints -= len(s.Endpoints)
		out = append(out, s)
	}
	return out
}

// series makes Services one after the other.
func (b *bed) series(ctx context.Context, name string, count, endpoints int) ([]time.Duration, error) {
	var out []time.Duration
	for i := range count {
		took, err := b.one(ctx, fmt.Sprintf("%s-%d", name, i), endpoints)
		if err != nil {
			return nil, err
		}
		out = append(out, took)
	}
	return sorted(out), nil
}

// load makes Services at a rate, whether or not those before have arrived.
func (b *bed) load(ctx context.Context, o options) ([]time.Duration, error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var out []time.Duration
	var failed error
	tick := time.NewTicker(time.Second / time.Duration(o.rate))
	defer tick.Stop()
	for i := range o.count {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		wg.Go(func() {
			took, err := b.one(ctx, fmt.Sprintf("load-%d", i), 100)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
			}
			out = append(out, took)
		})
	}
	wg.Wait()
	return sorted(out), failed
}
