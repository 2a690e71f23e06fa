package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Names of the loads.
const (
	plain    = "plain"
	floor    = "floor"
	spillway = "spillway"
)

// loadTimeout ends a load that does not come true.
const loadTimeout = 5 * time.Minute

// place is where a load puts pods.
type place struct {
	side      *side
	namespace string
	node      string // empty: the scheduler chooses among the cluster's own nodes
}

// places of a load.
func (b *bed) places(load string) []place {
	switch load {
	case plain:
		return []place{{b.provider, plainNamespace, ""}}
	case floor:
		return []place{{b.consumer, plainNamespace, ""}, {b.provider, plainNamespace, ""}}
	case spillway:
		return []place{{b.consumer, awayNamespace, b.node}}
	}
	panic("bench: no such load: " + load)
}

// eachPlace does something for all places of a load at once.
func (b *bed) eachPlace(ctx context.Context, load string, do func(context.Context, place) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range b.places(load) {
		g.Go(func() error { return do(ctx, p) })
	}
	return g.Wait()
}

// start makes a Deployment of n pods in every place of a load and returns how long it took until all were Ready.
func (b *bed) start(ctx context.Context, load string, n int) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	began := time.Now()
	err := b.eachPlace(ctx, load, func(ctx context.Context, p place) error {
		deployments := p.side.client.AppsV1().Deployments(p.namespace)
		if _, err := deployments.Create(ctx, b.deployment(load, p, n), metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create a Deployment: %w", err)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	ended, err := b.latest(load, b.whereStarted(load), func(s *side) (time.Time, error) { return s.tally.waitReady(ctx, load, n) })
	return ended.Sub(began), err
}

// remove deletes what start made and returns how long it took until no pod was left, at home and in the provider.
func (b *bed) remove(ctx context.Context, load string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	began := time.Now()
	background := metav1.DeletePropagationBackground
	err := b.eachPlace(ctx, load, func(ctx context.Context, p place) error {
		deployments := p.side.client.AppsV1().Deployments(p.namespace)
		if err := deployments.Delete(ctx, load, metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
			return fmt.Errorf("delete the Deployment: %w", err)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	ended, err := b.latest(load, b.sides(), func(s *side) (time.Time, error) { return s.tally.waitGone(ctx, load) })
	return ended.Sub(began), err
}

// whereStarted are the clusters in which a load's pods are to become Ready for their owner.
func (b *bed) whereStarted(load string) []*side {
	var sides []*side
	for _, p := range b.places(load) {
		sides = append(sides, p.side)
	}
	return sides
}

// latest is when the last of the sides was through.
func (b *bed) latest(load string, sides []*side, wait func(*side) (time.Time, error)) (time.Time, error) {
	var last time.Time
	for _, s := range sides {
		at, err := wait(s)
		if err != nil {
			return last, fmt.Errorf("load %s: %w", load, err)
		}
		if at.After(last) {
			last = at
		}
	}
	return last, nil
}

func (b *bed) deployment(load string, p place, n int) *appsv1.Deployment {
	replicas := int32(n)
	labels := map[string]string{labelLoad: load}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: load, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: b.podSpec(p)},
		},
	}
}

// podSpec is one small container; on the virtual node whatever keeps others off it is tolerated, so that any offloader
// can be measured.
func (b *bed) podSpec(p place) corev1.PodSpec {
	spec := corev1.PodSpec{Containers: []corev1.Container{{
		Name: "app", Image: b.image,
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("16Mi"),
		}},
	}}}
	if p.node != "" {
		spec.NodeSelector = map[string]string{corev1.LabelHostname: p.node}
		spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	}
	return spec
}

// single makes one pod, without a Deployment, and returns how long it took until it was Ready. The pod is gone when it
// returns.
func (b *bed) single(ctx context.Context, load string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	label := "one-" + load
	p := b.places(load)[0]
	pods := p.side.client.CoreV1().Pods(p.namespace)
	began := time.Now()
	pod, err := pods.Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: label + "-", Labels: map[string]string{labelLoad: label}}, Spec: b.podSpec(p),
	}, metav1.CreateOptions{})
	if err != nil {
		return 0, fmt.Errorf("create a pod: %w", err)
	}
	ready, err := p.side.tally.waitReady(ctx, label, 1)
	if err != nil {
		return 0, fmt.Errorf("load %s: %w", label, err)
	}
	if err := pods.Delete(ctx, pod.Name, metav1.DeleteOptions{}); err != nil {
		return 0, fmt.Errorf("delete pod %s: %w", pod.Name, err)
	}
	_, err = b.latest(label, b.sides(), func(s *side) (time.Time, error) { return s.tally.waitGone(ctx, label) })
	return ready.Sub(began), err
}
