package reflector

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"
)

// TestWatchesAtHome: with 100 open namespaces and 3 peers, home has one watch for each kind and one for each peer; none for a namespace.
func TestWatchesAtHome(t *testing.T) {
	const namespaces, peers = 100, 3
	synctest.Test(t, func(t *testing.T) {
		var objects []runtime.Object
		mapping := map[string]string{}
		for i := range namespaces {
			name := fmt.Sprintf("shop-%d", i)
			objects = append(objects, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"leave": "yes"}}},
				&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "settings", Namespace: name}})
			mapping[name] = name + "-1f2e"
		}
		server := fake.NewClientset(objects...)
		home := NewHome(HomeConfig{
			Client: server, Origin: "consumer-1", Events: record.NewFakeRecorder(1), Rules: &testRules{all: map[string]bool{"configmap": true}},
			Log: zaptest.NewLogger(t),
		})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		running.Go(func() { home.Run(ctx) })
		for i := range peers {
			pair := home.Attach(PairConfig{Node: fmt.Sprintf("far-%d", i), Remote: fake.NewClientset()})
			pair.SetNamespaces(mapping)
			running.Go(func() { pair.Run(ctx) })
		}
		synctest.Wait()
		watches := map[string]int{}
		for _, a := range server.Actions() {
			if a.GetVerb() == "watch" {
				watches[a.GetResource().Resource]++
			}
		}
		for resource, n := range watches {
			want := 1
			if resource == "pods" {
				want = peers // each narrowed to its virtual node
			}
			if n != want {
				t.Errorf("%d watches of %s, want %d", n, resource, want)
			}
		}
		t.Logf("%d namespaces, %d peers: %v", namespaces, peers, watches)
	})
}
