package translate

import (
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

func backOff() *corev1.Event {
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: "web.18", Namespace: "tenant-shop"},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "tenant-shop", Name: "web", UID: "twin-1", FieldPath: "spec.containers{web}"},
		Type:           corev1.EventTypeWarning, Reason: "BackOff",
		Message: "Back-off restarting failed container web in pod web_tenant-shop(twin-1)",
		Source:  corev1.EventSource{Component: "kubelet", Host: "worker-1"},
		Count:   3, FirstTimestamp: at(10), LastTimestamp: at(40),
	}
}

func TestEvent(t *testing.T) {
	local := bound()
	usual := corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: local.Namespace},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: local.Namespace, Name: local.Name, UID: local.UID, FieldPath: "spec.containers{web}",
		},
		Type: corev1.EventTypeWarning, Reason: "BackOff",
		Message: "Back-off restarting failed container web in pod web_" + local.Namespace + "(twin-1)",
		Source:  corev1.EventSource{Component: "spillway", Host: "spillway-peer"}, ReportingController: "spillway", ReportingInstance: "spillway-peer",
		Count: 3, FirstTimestamp: at(10), LastTimestamp: at(40),
	}
	for name, row := range map[string]struct {
		remote func(*corev1.Event)
		want   func(*corev1.Event)
		none   bool
	}{
		"by the kubelet": {},
		"by the scheduler, once": {
			remote: func(e *corev1.Event) {
				e.Count, e.FirstTimestamp, e.LastTimestamp = 0, metav1.Time{}, metav1.Time{}
				e.EventTime = metav1.NewMicroTime(at(20).Add(300 * time.Millisecond))
			},
			want: func(e *corev1.Event) { e.Count, e.FirstTimestamp, e.LastTimestamp = 1, at(20), at(20) },
		},
		"by the scheduler, again": {
			remote: func(e *corev1.Event) {
				e.Count, e.FirstTimestamp, e.LastTimestamp = 0, metav1.Time{}, metav1.Time{}
				e.EventTime = metav1.NewMicroTime(at(20).Time)
				e.Series = &corev1.EventSeries{Count: 7, LastObservedTime: metav1.NewMicroTime(at(80).Time)}
			},
			want: func(e *corev1.Event) { e.Count, e.FirstTimestamp, e.LastTimestamp = 7, at(20), at(80) },
		},
		"without times": {
			remote: func(e *corev1.Event) {
				e.FirstTimestamp, e.LastTimestamp, e.CreationTimestamp = metav1.Time{}, metav1.Time{}, at(5)
			},
			want: func(e *corev1.Event) { e.FirstTimestamp, e.LastTimestamp = at(5), at(5) },
		},
		"of success":         {remote: func(e *corev1.Event) { e.Type = corev1.EventTypeNormal }, none: true},
		"about another kind": {remote: func(e *corev1.Event) { e.InvolvedObject.Kind = "Service" }, none: true},
	} {
		t.Run(name, func(t *testing.T) {
			remote, want := backOff(), usual.DeepCopy()
			if row.remote != nil {
				row.remote(remote)
			}
			if row.want != nil {
				row.want(want)
			}
			if row.none {
				want = nil
			}
			got := Event(remote, local, testEnv())
			if got != nil {
				if problems := validation.IsDNS1123Subdomain(got.Name); problems != nil || !strings.HasPrefix(got.Name, local.Name+".") {
					t.Errorf("name %q: %v", got.Name, problems)
				}
				got.Name = ""
			}
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Errorf("Event (-want +got):\n%s", diff)
			}
		})
	}
}

// TestEvent_Name: what makes two Events the same is the pod, the reason and the words.
func TestEvent_Name(t *testing.T) {
	name := func(change func(remote *corev1.Event, local *corev1.Pod)) string {
		remote, local := backOff(), bound()
		change(remote, local)
		return Event(remote, local, testEnv()).Name
	}
	usual := name(func(*corev1.Event, *corev1.Pod) {})
	for what, row := range map[string]struct {
		change func(*corev1.Event, *corev1.Pod)
		same   bool
	}{
		"another object, count and time": {func(e *corev1.Event, _ *corev1.Pod) { e.Name, e.Count, e.LastTimestamp = "web.19", 9, at(99) }, true},
		"other words":                    {func(e *corev1.Event, _ *corev1.Pod) { e.Message += "." }, false},
		"another reason":                 {func(e *corev1.Event, _ *corev1.Pod) { e.Reason = "Failed" }, false},
		"another pod of the name":        {func(_ *corev1.Event, local *corev1.Pod) { local.UID += "2" }, false},
	} {
		if got := name(row.change); (got == usual) != row.same {
			t.Errorf("%s: name %s, that of the first is %s", what, got, usual)
		}
	}
	long := name(func(_ *corev1.Event, local *corev1.Pod) {
		local.Name = strings.Repeat("a", 219) + "." + strings.Repeat("b", 33)
	})
	if problems := validation.IsDNS1123Subdomain(long); problems != nil {
		t.Errorf("name of a pod with a long name: %v", problems)
	}
}
