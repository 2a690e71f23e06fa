package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/e2e/load"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

func pod(name, node string, change ...func(*corev1.Pod)) corev1.Pod {
	p := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name)},
		Spec:       corev1.PodSpec{NodeName: node},
		Status:     corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
	for _, c := range change {
		c(&p)
	}
	return p
}

func unready(p *corev1.Pod) { p.Status.Conditions = nil }
func ending(p *corev1.Pod)  { p.DeletionTimestamp = &metav1.Time{} }

func twin(change ...func(*corev1.Pod)) *corev1.Pod {
	t := pod("twin", "cloud-node-1", change...)
	return &t
}

func TestJudge(t *testing.T) {
	for name, row := range map[string]struct {
		all   []whereabouts
		twins int
		want  string // part of the complaint; empty: none
	}{
		"one here, one away":       {[]whereabouts{{pod("a", "home-node-1"), nil}, {pod("b", virtualNode), twin()}}, 1, ""},
		"one is missing":           {[]whereabouts{{pod("a", "home-node-1"), nil}}, 0, "there are 1"},
		"one is on no node":        {[]whereabouts{{pod("a", "home-node-1"), nil}, {pod("b", ""), nil}}, 0, "on no node"},
		"no twin":                  {[]whereabouts{{pod("a", "home-node-1"), nil}, {pod("b", virtualNode), nil}}, 0, "no twin"},
		"not Ready at home":        {[]whereabouts{{pod("a", "home-node-1", unready), nil}, {pod("b", virtualNode), twin()}}, 1, "pod a is not Ready"},
		"ending at home":           {[]whereabouts{{pod("a", "home-node-1", ending), nil}, {pod("b", virtualNode), twin()}}, 1, "pod a is not Ready"},
		"twin not Ready":           {[]whereabouts{{pod("a", "home-node-1"), nil}, {pod("b", virtualNode), twin(unready)}}, 1, "the twin of pod b"},
		"a twin that nobody needs": {[]whereabouts{{pod("a", "home-node-1"), nil}, {pod("b", virtualNode), twin()}}, 2, "1 pods have 2 twins"},
	} {
		t.Run(name, func(t *testing.T) {
			err := judge(row.all, row.twins, 2)
			if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
}

func TestTwinOf_GoesByUIDNotByName(t *testing.T) {
	p := pod("a", virtualNode)
	origin := func(uid string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Annotations = map[string]string{v1alpha1.AnnotationOriginUID: uid} }
	}
	twins := []corev1.Pod{pod("a", "n1", origin("uid-of-an-earlier-a")), pod("a", "n2", origin("uid-a"))}
	if got := twinOf(&p, twins); got == nil || got.Spec.NodeName != "n2" {
		t.Errorf("got %v", got)
	}
	if got := twinOf(&p, twins[:1]); got != nil {
		t.Errorf("took the twin of another pod: %v", got)
	}
}

func TestDifference(t *testing.T) {
	before, now := inventory{objects: map[string]string{}}, inventory{objects: map[string]string{}}
	item := func(ns, name, uid string) metav1.PartialObjectMetadata {
		return metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, UID: types.UID(uid)}}
	}
	before.add("secrets", []metav1.PartialObjectMetadata{item("x", "same", "1"), item("x", "gone", "2"), item("x", "replaced", "3")})
	now.add("secrets", []metav1.PartialObjectMetadata{item("x", "same", "1"), item("x", "new", "4"), item("x", "replaced", "5"), item(namespace, "the user's own", "6")})
	now.add("namespaces", []metav1.PartialObjectMetadata{item("", namespace, "7"), item("", namespace+"-1f2e", "8")})
	now.add("secrets", []metav1.PartialObjectMetadata{item("spillway-system", "spillway-tunnel", "9"), item("shop-1f2e", "spillway-tunnel", "10")})
	now.add("leases", []metav1.PartialObjectMetadata{item("spillway-system", "spillway-gateway-0", "11")})
	want := []string{"+ namespaces shop-1f2e", "+ secrets shop-1f2e/spillway-tunnel", "+ secrets x/new", "~ secrets x/replaced", "- secrets x/gone"}
	if diff := cmp.Diff(want, difference(before, now)); diff != "" {
		t.Errorf("difference (-want +got):\n%s", diff)
	}
}

// TestBegun: what spillwayd makes for itself is no trace of a peering, wherever in its beginning the demo first looks.
func TestBegun(t *testing.T) {
	own := []string{
		"leases spillway-system/spillwayd", "secrets spillway-system/spillway-webhook", "certificatesigningrequests csr-x7z",
		"endpointslices spillway-system/spillway-usage-kpwb2",
	}
	for n := range len(own) + 1 {
		now := inventory{objects: map[string]string{}}
		for _, name := range own[:n] {
			now.objects[name] = "uid"
		}
		if real, simulated := begun(now, true), begun(now, false); real != (n == 4) || simulated != (n >= 3) {
			t.Errorf("%d of them there: begun %t with real nodes, %t with simulated ones", n, real, simulated)
		}
	}
}

// TestRequests: lines are told only while pods move, each for a few seconds, with who answered.
func TestRequests(t *testing.T) {
	second := load.Second{OK: 200, Failed: 1, Nodes: map[string]int{"home-real-1": 150, "spillway-cloud": 30, "cloud-real-2": 20}}
	r := &requests{}
	if line := r.add(second); line != "" {
		t.Errorf("told before anything moves: %q", line)
	}
	r.tell(true)
	told := []string{}
	for range tellEvery {
		told = append(told, r.add(second))
	}
	want := []string{"", "", "201 requests/s, 3 errors; answered at home  75 %, in the cloud  25 %"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	var none *requests
	none.tell(true) // where there are no real nodes
	if got := rateLine([]load.Second{{}}); !strings.Contains(got, "0 requests/s") {
		t.Errorf("a second without answers: %q", got)
	}
}

func TestLines_HandsOnWholeLines(t *testing.T) {
	var got []string
	l := &lines{each: func(line string) { got = append(got, line) }}
	for _, part := range []string{"one\ntw", "o\n", "\nthree"} {
		if n, err := l.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatalf("wrote %d of %q: %v", n, part, err)
		}
	}
	l.Close()
	l.Close()
	if diff := cmp.Diff([]string{"one", "two", "", "three"}, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestShow_PlainUnlessOnATerminal(t *testing.T) {
	var b strings.Builder
	s := &show{w: &b, start: time.Now()}
	s.heading("Do it", "Because.\nReally.")
	s.failed(errJust)
	if got, want := b.String(), "\n1. Do it\n   Because.\n   Really.\n\n   ✗ just so\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	s.colours = true
	if got := s.good("x"); got == "x" {
		t.Error("no colour on a terminal")
	}
}

type plainError string

func (e plainError) Error() string { return string(e) }

const errJust = plainError("just so")

func TestSeconds(t *testing.T) {
	for d, want := range map[time.Duration]string{
		1250 * time.Millisecond: "1.2 s", 59 * time.Second: "59.0 s", 754 * time.Second: "12 min 34 s",
	} {
		if got := seconds(d); got != want {
			t.Errorf("%s: got %s, want %s", d, got, want)
		}
	}
}
