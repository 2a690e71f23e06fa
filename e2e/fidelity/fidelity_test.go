package fidelity

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

// limit of all shapes together, from the first create: two cores without other work need a fifth of it.
const limit = 8 * time.Minute

const namespace = "fidelity"

// atOnce is how many shapes have pods at one time: fewer than a node takes.
const atOnce = 24

// settle is how long two pods at rest may differ.
const settle = 10 * time.Second

// pair is a shape and the views of its two pods.
type pair struct {
	shape
	views [2]view   // at home, in the peer: as last seen at rest
	wrong string    // the last verdict
	open  bool      // its pods are there
	acted [2]bool   // at home, in the peer: changed as the shape says
	rest  time.Time // when both were first seen so
	done  bool
	took  time.Duration
}

// suite is one run of the table.
type suite struct {
	*world
	pairs []*pair
	seen  map[reason]bool // what differed by design
	began time.Time
}

// TestFidelity makes the pods of the table twice, and waits until each pair shows the same.
func TestFidelity(t *testing.T) {
	s := &suite{world: theWorld(t), seen: map[reason]bool{}}
	s.namespace(t, namespace)
	for _, shape := range shapes() {
		s.pairs = append(s.pairs, &pair{shape: shape, wrong: "it was not compared", done: shape.skip != ""})
	}
	s.began = time.Now()
	err := wait.PollUntilContextTimeout(t.Context(), 500*time.Millisecond, limit, true, func(ctx context.Context) (bool, error) {
		if err := s.fill(ctx); err != nil {
			return false, err
		}
		return s.judge(ctx)
	})
	if err != nil {
		t.Errorf("not all pods came to rest: %v", err)
	}
	t.Logf("%d shapes after %s", len(s.pairs), time.Since(s.began).Round(time.Millisecond))
	for _, p := range s.pairs {
		t.Run(p.name, p.report)
	}
	for _, why := range reasons() {
		if !s.seen[why] && why != sandboxAtEnd { // which of the kubelet's writes comes last with the end is a matter of luck
			t.Errorf("nothing differed because of %q: take it out of docs/reference.md and reasons()", why)
		}
	}
}

func (p *pair) report(t *testing.T) {
	if p.skip != "" {
		t.Skip(p.skip)
	}
	if p.wrong != "" {
		t.Errorf("what a user sees differs:\n%s", p.wrong)
		return
	}
	t.Logf("the same after %s", p.took.Round(100*time.Millisecond))
}

// fill makes the pods of the next shapes.
func (s *suite) fill(ctx context.Context) error {
	open := 0
	for _, p := range s.pairs {
		if p.open {
			open++
		}
	}
	var g errgroup.Group
	g.SetLimit(16)
	for _, p := range s.pairs {
		if p.done || p.open || open >= atOnce {
			continue
		}
		p.open = true
		open++
		g.Go(func() error {
			for end, node := range map[string]string{atHome: s.home, inPeer: "spillway-" + west} {
				pod, err := p.pod(end, node)
				if err != nil {
					return err
				}
				if _, err := s.kube.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
					return fmt.Errorf("create pod %s: %w", pod.Name, err)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// judge looks at all pods, takes those away that were compared, and says whether all were.
func (s *suite) judge(ctx context.Context) (bool, error) {
	found, err := s.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return false, err
	}
	byName := map[string]*corev1.Pod{}
	for i := range found.Items {
		byName[found.Items[i].Name] = &found.Items[i]
	}
	events, err := s.kube.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return false, err
	}
	all := true
	for _, p := range s.pairs {
		if p.open {
			if err := s.act(ctx, p, byName); err != nil {
				return false, err
			}
			p.judge(byName, events.Items, s.seen)
			p.took = time.Since(s.began)
		}
		if p.open && p.done {
			p.open = false
			if err := s.remove(ctx, p); err != nil {
				return false, err
			}
		}
		all = all && p.done
	}
	return all, nil
}

// remove makes room for others.
func (s *suite) remove(ctx context.Context, p *pair) error {
	for _, end := range []string{atHome, inPeer} {
		if p.until == nil {
			continue // its pods have ended, and take no room
		}
		err := s.kube.CoreV1().Pods(namespace).Delete(ctx, p.name+"-"+end, metav1.DeleteOptions{GracePeriodSeconds: new(int64(1))})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// act changes the pods that are to be changed now, each once. They are not looked at in this round.
func (s *suite) act(ctx context.Context, p *pair, byName map[string]*corev1.Pod) error {
	for i, end := range []string{atHome, inPeer} {
		if p.then == nil || p.acted[i] {
			continue
		}
		pod := byName[p.name+"-"+end]
		if pod == nil || !p.when(pod) {
			continue
		}
		if err := p.then(ctx, s.kube.CoreV1().Pods(namespace), pod.Name); err != nil {
			return fmt.Errorf("change pod %s: %w", pod.Name, err)
		}
		p.acted[i] = true
		delete(byName, pod.Name)
	}
	return nil
}

// judge compares the two pods as they were last seen at rest.
func (p *pair) judge(byName map[string]*corev1.Pod, events []corev1.Event, seen map[reason]bool) {
	p.wrong = ""
	for i, end := range []string{atHome, inPeer} {
		pod := byName[p.name+"-"+end]
		if pod == nil {
			p.wrong += "the pod is gone: " + end + "\n"
			continue
		}
		v := viewOf(pod)
		if p.warns != "" {
			v.warnings(pod, events)
		}
		if p.atRest(pod) && (p.then == nil || p.acted[i]) && (p.warns == "" || v.warned(p.warns)) {
			p.views[i] = v
		} else if p.views[i] == nil {
			p.wrong += fmt.Sprintf("not at rest: %s: %v\n", end, v)
		}
	}
	if p.wrong != "" {
		return
	}
	if p.rest.IsZero() {
		p.rest = time.Now()
	}
	if p.refused {
		seen[podSecurity], p.done = true, true
		return
	}
	p.wrong = verdict(p.views[0], p.views[1], p.differs, seen)
	p.done = p.wrong == "" || time.Since(p.rest) > settle
}
