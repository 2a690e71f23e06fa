package peering

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
	peeringclient "github.com/spillway-dev/spillway/peering/v1alpha1/client"
)

// begun is a Migration of StatefulSet db to west, which has come to a share.
func begun(name string, share int32) *v1alpha1.Migration {
	m := &v1alpha1.Migration{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", UID: "uid", ResourceVersion: "1"}}
	m.Spec.To.Peer = "west"
	m.Status.Phase, m.Status.Share = v1alpha1.MigrationMoving, share
	m.Status.Workloads = []v1alpha1.MigratedWorkload{{WorkloadName: v1alpha1.WorkloadName{Kind: v1alpha1.WorkloadStatefulSet, Name: "db"}}}
	return m
}

// served are the objects of an API server that tells changes one by one.
type served struct {
	peeringclient.Migrations
	refusal error
	items   []v1alpha1.Migration
	changes *watch.FakeWatcher
}

func (s served) IsWatchListSemanticsUnSupported() bool { return true }

func (s served) List(context.Context, metav1.ListOptions) (*v1alpha1.MigrationList, error) {
	if s.refusal != nil {
		return nil, s.refusal
	}
	return &v1alpha1.MigrationList{Items: s.items}, nil
}

func (s served) Watch(context.Context, metav1.ListOptions) (watch.Interface, error) {
	return s.changes, s.refusal
}

// onePolicy is an API server with one OffloadPolicy.
type onePolicy struct{ peeringclient.Policies }

func (onePolicy) IsWatchListSemanticsUnSupported() bool { return true }

func (onePolicy) List(context.Context, metav1.ListOptions) (*v1alpha1.OffloadPolicyList, error) {
	return &v1alpha1.OffloadPolicyList{Items: []v1alpha1.OffloadPolicy{{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "blog"}}}}, nil
}

func (onePolicy) Watch(context.Context, metav1.ListOptions) (watch.Interface, error) {
	return watch.NewFake(), nil
}

// follow runs Policies until the test ends, and returns them once they know everything, with what they tell.
func follow(t *testing.T, s served) (*Policies, <-chan string) {
	t.Helper()
	p := newPolicies(func(string) peeringclient.Policies { return onePolicy{} }, s)
	told := make(chan string, 100)
	p.Notify(func(namespace string) { told <- namespace })
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	running.Go(func() { p.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	for _, c := range []<-chan struct{}{p.cache.Synced(), p.migrations.Synced()} {
		select {
		case <-c:
		case <-time.After(20 * time.Second):
			t.Fatal("not everything is known")
		}
	}
	if !p.Synced() {
		t.Fatal("they do not say that everything is known")
	}
	return p, told
}

// TestPolicies_FollowMigrations: a namespace is governed as long as it has a Migration that was not refused, and everybody is told when
// it sends pods another way, not of each step.
func TestPolicies_FollowMigrations(t *testing.T) {
	fresh := begun("m", 0)
	fresh.Status = v1alpha1.MigrationStatus{}
	s := served{items: []v1alpha1.Migration{*fresh}, changes: watch.NewFake()}
	p, told := follow(t, s)
	look := func(when string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(p.Governed()))); diff != "" {
			t.Errorf("%s: governed: %s", when, diff)
		}
	}
	hears := func(when, namespace string) {
		t.Helper()
		select {
		case got := <-told:
			if got != namespace {
				t.Errorf("%s: told of %s, want %s", when, got, namespace)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: nobody was told", when)
		}
	}
	first := []string{<-told, <-told}
	slices.Sort(first)
	if diff := cmp.Diff([]string{"blog", "shop"}, first); diff != "" || len(p.Migrations()) != 1 {
		t.Errorf("at first told: %s", diff)
	}
	look("before it begins", "blog", "shop")
	version := func(v string, m *v1alpha1.Migration) *v1alpha1.Migration { m.ResourceVersion = v; return m }
	s.changes.Modify(version("2", begun("m", 0)))
	hears("it begins", "shop")
	look("it has begun", "blog", "shop")
	progress := version("3", begun("m", 0))
	progress.Status.Moved, progress.Status.Workloads[0].Moved = "1/3", 1
	s.changes.Modify(progress)
	paused := version("4", begun("m", 0))
	paused.Generation = 2
	s.changes.Modify(paused)
	hears("it is paused", "shop")
	s.changes.Modify(version("5", begun("m", 50)))
	hears("it sends half", "shop")
	refused := version("6", begun("m", 50))
	refused.Status.Phase = v1alpha1.MigrationRefused
	s.changes.Modify(refused)
	hears("it is refused", "shop")
	look("it is refused", "blog")
	s.changes.Delete(version("7", refused.DeepCopy()))
	hears("it is gone", "shop")
	look("it is gone", "blog")
	if len(told) > 0 {
		t.Errorf("told of %s for nothing", <-told)
	}
}

// TestPolicies_WithoutMigrations: a cluster that does not serve the kind has none, and its policies count.
func TestPolicies_WithoutMigrations(t *testing.T) {
	p, told := follow(t, served{refusal: apierrors.NewNotFound(v1alpha1.MigrationResource.GroupResource(), "")})
	if got := <-told; got != "blog" || p.Set("blog").Len() != 1 || len(p.Migrations()) != 0 {
		t.Errorf("told of %s; %d policies, %d Migrations", got, p.Set("blog").Len(), len(p.Migrations()))
	}
}
