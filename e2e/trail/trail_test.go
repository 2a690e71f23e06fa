package trail

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

func pod(name, node string, ready bool, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", UID: types.UID("uid-" + name), Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{NodeName: node},
	}
	if ready {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func released(p *corev1.Pod) { p.Labels[v1alpha1.LabelMoving] = "uid" }

// TestTrail: one of two pods moves; the trail says how many there ever were where, and that both places had one too few meanwhile.
func TestTrail(t *testing.T) {
	tr := New(fake.NewClientset(), "shop")
	a, b := pod("a", "east-1", true), pod("b", "spillway-west", true)
	tr.note(nil, a)
	tr.note(nil, b)
	tr.Mark("web")
	tr.note(b, pod("b", "spillway-west", true, released))
	if home, away, others := tr.Now("web"); home != 1 || away != 0 || others != 1 {
		t.Errorf("released: %d %d %d", home, away, others)
	}
	tr.note(nil, pod("c", "", false))
	tr.note(b, nil)
	tr.note(nil, pod("c", "east-1", true))
	if made, home, away := tr.Count("web"); made != 3 || home != 2 || away != 1 {
		t.Errorf("ever: %d %d %d", made, home, away)
	}
	if home, away, others := tr.Now("web"); home != 2 || away != 0 || others != 0 {
		t.Errorf("now: %d %d %d", home, away, others)
	}
	if least := tr.Least("web"); least != 1 {
		t.Errorf("least %d, want 1", least)
	}
	if text := tr.String(); strings.Count(text, "\n") != 4 || !strings.Contains(text, "released") || !strings.Contains(text, "gone") {
		t.Errorf("told:\n%s", text)
	}
}

// TestTrail_SeesAReplacedName: the next pod of a StatefulSet has the name of the last one.
func TestTrail_SeesAReplacedName(t *testing.T) {
	tr := New(fake.NewClientset(), "shop")
	first, next := pod("db-0", "east-1", true), pod("db-0", "spillway-west", true, func(p *corev1.Pod) { p.UID = "other" })
	tr.note(nil, first)
	tr.note(first, next)
	if made, home, away := tr.Count("web"); made != 2 || home != 1 || away != 1 {
		t.Errorf("%d %d %d", made, home, away)
	}
}

func TestTrail_Watches(t *testing.T) {
	kube := fake.NewClientset(pod("a", "east-1", true))
	tr := New(kube, "shop")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	done := make(chan struct{})
	go func() { defer close(done); tr.Run(ctx) }()
	defer func() { cancel(); <-done }()
	select {
	case <-tr.Synced():
	case <-ctx.Done():
		t.Fatal("the watch does not start")
	}
	if got := fmt.Sprint(tr.Now("web")); got != "1 0 0" {
		t.Errorf("now %s", got)
	}
}
