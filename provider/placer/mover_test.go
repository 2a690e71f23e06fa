package placer

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"

	"github.com/spillway-dev/spillway/provider/placement"
)

// movesDone makes an API server in memory that answers writes of pods with err, and notes them.
func movesDone(client *fake.Clientset, err error) *[]string {
	var log []string
	client.PrependReactor("*", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
		switch a := action.(type) {
		case clienttesting.PatchAction:
			log = append(log, "patch "+a.GetName()+" "+string(a.GetPatch()))
		case clienttesting.CreateAction:
			must := a.GetObject().(*policyv1.Eviction).DeleteOptions.Preconditions
			text := fmt.Sprintf("evict %s uid %s", a.GetObject().(*policyv1.Eviction).Name, *must.UID)
			if must.ResourceVersion != nil {
				text += " resourceVersion " + *must.ResourceVersion
			}
			log = append(log, text)
		default:
			return false, nil, nil
		}
		return true, &corev1.Pod{}, err
	})
	return &log
}

func heard(events *record.FakeRecorder) []string {
	var out []string
	for {
		select {
		case e := <-events.Events:
			out = append(out, e)
		default:
			return out
		}
	}
}

// starting is a pod that is not Ready.
func starting(pod *corev1.Pod) *corev1.Pod {
	pod.Status.Conditions, pod.ResourceVersion = nil, "7"
	return pod
}

func TestMover_Move(t *testing.T) {
	web := ownerOf("apps/v1", "ReplicaSet", "web-1a")
	owned := func() *corev1.Pod { return withHash(cachedPod("web-0", "node-1", web), "1a") }
	released := func() *corev1.Pod { return letGo(withHash(cachedPod("web-0", "node-1", nil), "1a"), "web-1a") }
	other := starting(withHash(cachedPod("web-1", "", web), "1a"))
	marked := other.DeepCopy()
	marked.Annotations = map[string]string{corev1.PodDeletionCost: costOfInstead}
	moving := &placement.Moving{
		Controller: "web-1a", Hash: "1a", To: "west", Why: "Step 1.", At: time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC),
	}
	restored := `patch web-0 {"metadata":{"uid":"web-0","labels":{"pod-template-hash":"1a","spillway.dev/moving":null},` +
		`"annotations":{"spillway.dev/moving":null,"spillway.dev/placement":"Back."}}}`
	for name, row := range map[string]struct {
		move   placement.Move
		now    string // the pod's resourceVersion, when it has changed since it was seen
		writes []string
		events []string
	}{
		"release": {
			move: placement.Move{Kind: placement.Release, Pod: owned(), Moving: moving, Why: "Step 1."},
			writes: []string{`patch web-0 {"metadata":{"uid":"web-0","labels":{"pod-template-hash":"1a-moving","spillway.dev/moving":"web-1a"},` +
				`"annotations":{"spillway.dev/moving":"{\"controller\":\"web-1a\",\"hash\":\"1a\",\"to\":\"west\",\"why\":\"Step 1.\",` +
				`\"at\":\"2026-01-02T15:04:05Z\"}","spillway.dev/placement":"Step 1."}}}`},
			events: []string{"Normal Moving It goes to west once another pod is Ready instead of it. Step 1."},
		},
		"released already": {move: placement.Move{Kind: placement.Release, Pod: released(), Moving: moving}},
		"evict":            {move: placement.Move{Kind: placement.Evict, Pod: owned(), Why: "Step 1."}, writes: []string{"evict web-0 uid web-0"}, events: []string{"Normal Moving It ends here, and its controller makes another one. Step 1."}},
		"evict what is not Ready": {
			move:   placement.Move{Kind: placement.Evict, Pod: starting(owned()), Why: "Step 1."},
			writes: []string{"evict web-0 uid web-0 resourceVersion 7"},
			events: []string{"Normal Moving It ends here, and its controller makes another one. Step 1."},
		},
		"evict what may be Ready by now": {move: placement.Move{Kind: placement.Evict, Pod: starting(owned()), Why: "Step 1."}, now: "8"},
		"evict what was released": {
			move: placement.Move{Kind: placement.Evict, Pod: released(), Why: "The others do."}, writes: []string{"evict web-0 uid web-0"},
			events: []string{"Normal Moved The others do."},
		},
		"restore": {
			move:   placement.Move{Kind: placement.Restore, Pod: released(), Why: "Back."},
			writes: []string{restored}, events: []string{"Normal Stays Back."},
		},
		"restore instead of another": {
			move: placement.Move{Kind: placement.Restore, Pod: released(), Instead: other, Why: "Back."},
			writes: []string{
				`patch web-1 {"metadata":{"uid":"web-1","annotations":{"controller.kubernetes.io/pod-deletion-cost":"-1000000"}}}`, restored,
			},
			events: []string{"Normal Stays Back."},
		},
		"restore instead of one that is marked": {
			move:   placement.Move{Kind: placement.Restore, Pod: released(), Instead: marked, Why: "Back."},
			writes: []string{restored}, events: []string{"Normal Stays Back."},
		},
		"restored already": {move: placement.Move{Kind: placement.Restore, Pod: owned(), Why: "Back."}},
	} {
		t.Run(name, func(t *testing.T) {
			there := row.move.Pod.DeepCopy()
			if row.now != "" {
				there.ResourceVersion = row.now
			}
			client, events := fake.NewClientset(there), record.NewFakeRecorder(10)
			writes := movesDone(client, nil)
			if refused, err := NewMover(client, events).Move(t.Context(), row.move); err != nil || refused {
				t.Fatalf("refused %v, %v", refused, err)
			}
			if diff := cmp.Diff(row.writes, *writes); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(row.events, heard(events)); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

// TestMover_Answers is what an API server may say, which is success when the pod is not there any more.
func TestMover_Answers(t *testing.T) {
	pods, kind := schema.GroupResource{Resource: "pods"}, schema.GroupKind{Kind: "Pod"}
	invalid := func(path string) error {
		return apierrors.NewInvalid(kind, "web-0", field.ErrorList{field.Invalid(field.NewPath("metadata", path), "x", "field is immutable")})
	}
	for name, row := range map[string]struct {
		says    error
		refused bool
		failed  bool
	}{
		"gone":                    {says: apierrors.NewNotFound(pods, "web-0")},
		"another one, or changed": {says: apierrors.NewConflict(pods, "web-0", errors.New("uid"))},
		"another one, in a patch": {says: invalid("uid")},
		"something else":          {says: invalid("labels"), failed: true},
		"no right":                {says: apierrors.NewForbidden(pods, "web-0", nil), failed: true},
		"a budget":                {says: apierrors.NewTooManyRequests("budget", 10), refused: true},
	} {
		for _, move := range []placement.Move{
			{Kind: placement.Evict, Pod: cachedPod("web-0", "node-1", nil)},
			{Kind: placement.Release, Pod: cachedPod("web-0", "node-1", ownerOf("apps/v1", "ReplicaSet", "web")), Moving: &placement.Moving{}},
		} {
			client, events := fake.NewClientset(), record.NewFakeRecorder(10)
			movesDone(client, row.says)
			refused, err := NewMover(client, events).Move(t.Context(), move)
			if row.refused && move.Kind != placement.Evict {
				continue // budgets are asked about evictions only
			}
			if refused != row.refused || (err != nil) != row.failed {
				t.Errorf("%s, %s: refused %v, %v", move.Kind, name, refused, err)
			}
			if got := heard(events); got != nil {
				t.Errorf("%s, %s: nothing was done, and Events say %q", move.Kind, name, got)
			}
		}
	}
	if _, err := NewMover(fake.NewClientset(), record.NewFakeRecorder(1)).Move(t.Context(), placement.Move{Pod: &corev1.Pod{}}); err == nil {
		t.Error("a move of no kind was carried out")
	}
}

// TestSweep ends what was let go of, and touches nothing that somebody has a wish for.
func TestSweep(t *testing.T) {
	ending := letGo(withHash(cachedPod("web-ending", "node-1", nil), "1a"), "web-9x")
	ending.DeletionTimestamp, ending.Finalizers = new(metav1.Now()), []string{"x/y"}
	for name, row := range map[string]struct {
		replicas int32
		wished   func(placement.Workload) bool
		want     []string
	}{
		"the others are Ready":     {replicas: 2, want: []string{"evict web-forlorn uid web-forlorn", "evict web-released uid web-released"}},
		"the others are not there": {replicas: 4, want: []string{"evict web-forlorn uid web-forlorn"}},
		"somebody has a wish": {
			replicas: 2, wished: func(w placement.Workload) bool { return w.Name == "web" }, want: []string{"evict web-forlorn uid web-forlorn"},
		},
		"nobody has": {
			replicas: 2, wished: func(placement.Workload) bool { return false },
			want: []string{"evict web-forlorn uid web-forlorn", "evict web-released uid web-released"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				objects := slices.DeleteFunc(shopObjects(), func(o runtime.Object) bool {
					d, ok := o.(*appsv1.Deployment)
					return ok && d.Name == "web"
				})
				c, client := runCaches(t, func() {}, append(objects, ending, cachedDeployment("web", row.replicas))...)
				writes := movesDone(client, nil)
				if refused, err := Sweep(t.Context(), c, NewMover(client, record.NewFakeRecorder(10)), row.wished); err != nil || refused {
					t.Fatalf("refused %v, %v", refused, err)
				}
				slices.Sort(*writes)
				if diff := cmp.Diff(row.want, *writes); diff != "" {
					t.Errorf("writes (-want +got):\n%s", diff)
				}
			})
		})
	}
}
