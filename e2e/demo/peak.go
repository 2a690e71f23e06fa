package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/e2e/lab/realnode"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	// cart is the Deployment that overflows and migrates, nightWork what fills home.
	cart      = "cart"
	nightWork = "night-work"
	cartPods  = 10

	// cartCPU is what each of them requests, leftPerNode what the night work leaves free on the fullest node of home, in thousandths of
	// a core.
	cartCPU     = 100
	leftPerNode = 2*cartCPU + cartCPU/2
)

// peakManifest is the policy, and the Deployment with its Service; replicas, image, pull policy and thousandths of a core are filled in.
const peakManifest = `apiVersion: spillway.dev/v1alpha1
kind: OffloadPolicy
metadata: {name: burst, namespace: shop}
spec:
  podSelector: {matchLabels: {app: cart}}
  when: Burst                           # home first
  peers: [{name: cloud}]
  burst:
    after: 3s                           # without room
    comeHome: {stabilization: 5s}       # with room
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop}
spec:
  replicas: %d
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: cart
        image: %s
        imagePullPolicy: %s
        args: [serve]
        env:
        - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
        resources: {requests: {cpu: %dm}}
        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
        lifecycle: {preStop: {sleep: {seconds: 3}}}   # until nobody is sent to it any more
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec:
  selector: {app: cart}
  ports: [{port: 80, targetPort: 8080}]
`

// nightManifest fills home, with one pod on each node; the same are filled in.
const nightManifest = `apiVersion: apps/v1
kind: Deployment
metadata: {name: night-work, namespace: shop}
spec:
  replicas: %d
  selector: {matchLabels: {app: night-work}}
  template:
    metadata: {labels: {app: night-work}}
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
      - {topologyKey: kubernetes.io/hostname, maxSkew: 1, whenUnsatisfiable: DoNotSchedule,
         nodeTaintsPolicy: Honor, labelSelector: {matchLabels: {app: night-work}}}
      containers:
      - name: work
        image: %s
        imagePullPolicy: %s
        args: [sleep]
        resources: {requests: {cpu: %dm}}
`

// appImage is what pods run, and how it is pulled: a simulated kubelet pulls nothing.
func (d *demo) appImage() (image, pull string) {
	if d.real {
		return realnode.AppImage, "Never"
	}
	return realnode.AppImage, "IfNotPresent"
}

// peak fills home, and then wants more pods than there is room for.
func (d *demo) peak(ctx context.Context) error {
	d.show.heading("A peak, when home is full",
		fmt.Sprintf("The night's work takes nearly all of home, and then the shop wants %d carts. A policy says: home first, and what finds no room\n"+
			"for 3 s goes to the cloud. The pods themselves say nothing.", cartPods))
	free, err := d.freeAtHome(ctx)
	if err != nil {
		return err
	}
	image, pull := d.appImage()
	night := fmt.Sprintf(nightManifest, nodesPerCluster, image, pull, slices.Min(slices.Collect(maps.Values(free)))-leftPerNode)
	if err := d.doWith(ctx, night, "kubectl", "--context", home, "apply", "-f", "-"); err != nil {
		return err
	}
	if err := d.expectOf(ctx, nightWork, nodesPerCluster, 0); err != nil {
		return err
	}
	if free, err = d.freeAtHome(ctx); err != nil {
		return err
	}
	fit := roomFor(free)
	if fit >= cartPods {
		return fmt.Errorf("home should be nearly full, but has room for %d carts: %v thousandths of a core are free", fit, free)
	}
	d.show.ok("home has room for %d carts", fit)
	text := fmt.Sprintf(peakManifest, cartPods, image, pull, cartCPU)
	for line := range strings.Lines(text) {
		d.show.plain("     %s", d.show.dim(strings.TrimRight(line, "\n")))
	}
	if err := d.doWith(ctx, text, "kubectl", "--context", home, "apply", "-f", "-"); err != nil {
		return err
	}
	if err := d.expectOf(ctx, cart, fit, cartPods-fit); err != nil {
		return err
	}
	return d.why(ctx)
}

// why shows what Spillway has written on one pod that overflowed.
func (d *demo) why(ctx context.Context) error {
	all, err := d.lookAt(ctx, cart)
	if err != nil {
		return err
	}
	for _, w := range all {
		if reason := w.pod.Annotations[v1alpha1.AnnotationPlacement]; w.away() && reason != "" {
			d.show.plain("   Why is %s there? %s", w.pod.Name, reason)
			return nil
		}
	}
	return errors.New("no pod in the cloud says why it is there")
}

// comeHome ends the night's work.
func (d *demo) comeHome(ctx context.Context) error {
	d.show.heading("The peak is over",
		"The night's work ends. When there has been room for 5 s, the carts come home, some at a time: each gets a successor at home first,\n"+
			"and goes when that is Ready.")
	if err := d.do(ctx, "kubectl", "--context", home, "-n", namespace, "scale", "deployment/"+nightWork, "--replicas=0"); err != nil {
		return err
	}
	if err := d.expectOf(ctx, cart, cartPods, 0); err != nil {
		return err
	}
	return d.do(ctx, "kubectl", "--context", home, "-n", namespace, "delete", "deployment/"+nightWork, "offloadpolicy/burst")
}

// expectOf waits until a Deployment has these Ready pods at home and in the cloud, and no others.
func (d *demo) expectOf(ctx context.Context, name string, here, there int) error {
	var all []whereabouts
	wrong := errors.New("nothing was seen")
	err := d.until(ctx, func(ctx context.Context) (bool, error) {
		found, err := d.lookAt(ctx, name)
		if err != nil {
			return false, err
		}
		all, wrong = found, judge(found, countAway(found), here+there)
		if wrong == nil && countAway(found) != there {
			wrong = fmt.Errorf("%d are in the cloud", countAway(found))
		}
		return wrong == nil, nil
	})
	if err != nil {
		d.tell(all)
		return fmt.Errorf("%s should have %d Ready pods at home and %d in the cloud, but %w (%w)", name, here, there, wrong, err)
	}
	d.show.ok("%s: %d pods Ready: %d on home's own nodes, %d in the cloud", name, here+there, here, there)
	return nil
}

// freeAtHome is how many thousandths of a core are free, by node.
func (d *demo) freeAtHome(ctx context.Context) (map[string]int64, error) {
	kube := d.clusters[home].kube
	nodes, err := kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: "!" + v1alpha1.LabelPeer})
	if err != nil {
		return nil, fmt.Errorf("list the nodes of home: %w", err)
	}
	pods, err := kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the pods of home: %w", err)
	}
	free := map[string]int64{}
	for _, n := range nodes.Items {
		free[n.Name] = n.Status.Allocatable.Cpu().MilliValue()
	}
	for _, p := range pods.Items {
		if _, ours := free[p.Spec.NodeName]; !ours || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		for _, c := range p.Spec.Containers {
			free[p.Spec.NodeName] -= c.Resources.Requests.Cpu().MilliValue()
		}
	}
	return free, nil
}

// roomFor says how many carts fit where so much is free.
func roomFor(free map[string]int64) int {
	n := 0
	for _, f := range free {
		n += int(max(0, f) / cartCPU)
	}
	return n
}
