package live

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"
)

func configMap(name, uid, version string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: name, UID: types.UID(uid), ResourceVersion: version,
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "somebody"}},
	}}
}

// told collects what Changed was told: "name before->now" by UID and version.
func told(log *[]string) func(before, now *corev1.ConfigMap) {
	say := func(o *corev1.ConfigMap) string {
		if o == nil {
			return "none"
		}
		return fmt.Sprintf("%s@%s", o.UID, o.ResourceVersion)
	}
	return func(before, now *corev1.ConfigMap) {
		o := now
		if o == nil {
			o = before
		}
		*log = append(*log, fmt.Sprintf("%s %s->%s", o.Name, say(before), say(now)))
	}
}

func TestCache_TellsTheDifferencesOfAList(t *testing.T) {
	rows := map[string]struct {
		before, list []any
		want         []string
	}{
		"the first list": {list: []any{configMap("a", "1", "5")}, want: []string{"a none->1@5"}},
		"the same again": {before: []any{configMap("a", "1", "5")}, list: []any{configMap("a", "1", "5")}},
		"changed while the watch was away": {
			before: []any{configMap("a", "1", "5")}, list: []any{configMap("a", "1", "6")}, want: []string{"a 1@5->1@6"},
		},
		"deleted while the watch was away": {
			before: []any{configMap("a", "1", "5")}, want: []string{"a 1@5->none"},
		},
		"replaced by another of the name": {
			before: []any{configMap("a", "1", "5")}, list: []any{configMap("a", "2", "9")}, want: []string{"a 1@5->2@9"},
		},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			var log []string
			c := New(Options[*corev1.ConfigMap]{Name: "test", Changed: told(&log)})
			s := (*store[*corev1.ConfigMap])(c)
			if row.before != nil {
				if err := s.Replace(row.before, ""); err != nil {
					t.Fatal(err)
				}
			}
			log = nil
			if err := s.Replace(row.list, ""); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.want, log); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
			if !c.HasSynced() {
				t.Error("a complete list was stored, and the cache does not say so")
			}
		})
	}
}

func TestCache_EventsAndIndexes(t *testing.T) {
	var log []string
	c := New(Options[*corev1.ConfigMap]{
		Name: "test", Changed: told(&log),
		Indexers: cache.Indexers{"uid": func(obj any) ([]string, error) {
			return []string{string(obj.(*corev1.ConfigMap).UID)}, nil
		}},
	})
	s := (*store[*corev1.ConfigMap])(c)
	for _, do := range []func() error{
		func() error { return s.Add(configMap("a", "1", "1")) },
		func() error { return s.Update(configMap("a", "1", "2")) },
		func() error { return s.Add(configMap("b", "2", "3")) },
		func() error { return s.Delete(configMap("a", "1", "4")) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"a none->1@1", "a 1@1->1@2", "b none->2@3", "a 1@4->none"}
	if diff := cmp.Diff(want, log); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	if _, ok := c.Get("shop", "a"); ok || c.Len() != 1 || len(c.Index("uid", "2")) != 1 || len(c.Index("uid", "1")) != 0 {
		t.Errorf("the cache holds %v", c.List())
	}
	if b, _ := c.Get("shop", "b"); b.ManagedFields != nil {
		t.Error("managed fields are kept, although nobody reads them")
	}
	if c.HasSynced() {
		t.Error("the cache says that it is complete, and no list has come")
	}
}

// TestCache_Run follows an API server in memory, and ends with its context.
func TestCache_Run(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(configMap("a", "1", "1"))
		var log []string
		c := New(Options[*corev1.ConfigMap]{
			Name: "test", Changed: told(&log), ListWatch: ListWatch(client, client.CoreV1().ConfigMaps("shop"), nil),
		})
		go c.Run(t.Context())
		<-c.Synced()
		if _, err := client.CoreV1().ConfigMaps("shop").Create(t.Context(), configMap("b", "2", "2"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Second)
		synctest.Wait()
		if diff := cmp.Diff([]string{"a none->1@1", "b none->2@2"}, log); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
}
