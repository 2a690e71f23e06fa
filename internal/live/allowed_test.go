package live

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"
)

// TestUnless: what is refused often enough counts as empty for a while, and is looked at again.
func TestUnless(t *testing.T) {
	gr := schema.GroupResource{Resource: "configmaps"}
	absent, denied := apierrors.NewNotFound(gr, ""), apierrors.NewForbidden(gr, "", nil)
	either := func(lw cache.ListerWatcher) cache.ListerWatcher { return IfServed(IfAllowed(lw)) }
	for name, row := range map[string]struct {
		wrap    func(cache.ListerWatcher) cache.ListerWatcher
		refusal error
		tries   int // until it counts as empty; zero: never
		lasts   time.Duration
	}{
		"not served":              {IfServed, absent, absences, absenceLasts},
		"not allowed":             {IfAllowed, denied, denials, denialLasts},
		"either, not served":      {either, absent, absences, absenceLasts},
		"either, not allowed":     {either, denied, denials, denialLasts},
		"out of order":            {either, apierrors.NewTooManyRequests("later", 1), 0, 0},
		"not allowed, but served": {IfServed, denied, 0, 0},
		"not served, but allowed": {IfAllowed, absent, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				refusal := row.refusal
				lw := row.wrap(&cache.ListWatch{ListWithContextFunc: func(context.Context, metav1.ListOptions) (runtime.Object, error) {
					return &corev1.ConfigMapList{Items: []corev1.ConfigMap{*configMap("a", "1", "1")}}, refusal
				}}).(*unless)
				list := func() (int, error) {
					l, err := lw.ListWithContext(t.Context(), metav1.ListOptions{})
					if err != nil {
						return 0, err
					}
					return meta.LenList(l), nil
				}
				tries := 0
				for tries = 1; tries < 2*denials; tries++ {
					if _, err := list(); err == nil {
						break
					} else if !errors.Is(err, row.refusal) {
						t.Fatal(err)
					}
				}
				if row.tries == 0 {
					if tries < 2*denials {
						t.Errorf("believed after %d tries", tries)
					}
					return
				}
				before := time.Now()
				if _, err := lw.WatchWithContext(t.Context(), metav1.ListOptions{}); !apierrors.IsResourceExpired(err) {
					t.Errorf("the watch that is none: %v", err)
				}
				if waited := time.Since(before); tries != row.tries || waited != row.lasts {
					t.Errorf("believed after %d tries for %s, want %d, %s", tries, waited, row.tries, row.lasts)
				}
				refusal = nil
				if n, err := list(); n != 1 || err != nil {
					t.Errorf("no longer refused: %d objects, %v", n, err)
				}
			})
		})
	}
}
