package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// controller stands in for spillwayd: it answers to Peerings as the real one does, as far as the CLI can see.
type controller struct {
	c     *cluster
	stuck string // reason for which the consumer never gets Authenticated; empty: it does
	deaf  bool   // no packet passes the tunnel
}

// runController works in c until the test ends.
func runController(t *testing.T, c *cluster, stuck string) {
	(&controller{c: c, stuck: stuck}).run(t)
}

func (k *controller) run(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := k.c
	signLife(ctx, t, c)
	kick := make(chan struct{}, 1)
	poke := func() {
		select {
		case kick <- struct{}{}:
		default:
		}
	}
	var group sync.WaitGroup
	group.Go(func() {
		_ = follow(ctx, peeringsOf(c), metav1.ListOptions{}, func(map[string]*v1alpha1.Peering) bool { poke(); return false })
	})
	group.Go(func() {
		_ = follow(ctx, secretsOf(c), metav1.ListOptions{}, func(map[string]*corev1.Secret) bool { poke(); return false })
	})
	group.Go(func() {
		_ = follow(ctx, podsOf(c), metav1.ListOptions{}, func(map[string]*corev1.Pod) bool { poke(); return false })
	})
	group.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-kick:
				if err := k.reconcile(ctx); err != nil && ctx.Err() == nil {
					t.Logf("controller of %s: %v", c.context, err)
					poke()
				}
			}
		}
	})
	t.Cleanup(func() { cancel(); group.Wait() })
}

// signLife renews the Lease once, for long.
func signLife(ctx context.Context, t *testing.T, c *cluster) {
	holder, seconds := "test", int32(3600)
	now := metav1.NewMicroTime(time.Now())
	_, err := c.kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.SystemNamespace}}, metav1.CreateOptions{})
	if err == nil || apierrors.IsAlreadyExists(err) {
		_, err = c.kube.CoordinationV1().Leases(v1alpha1.SystemNamespace).Create(ctx, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ControllerLease, Namespace: v1alpha1.SystemNamespace},
			Spec:       coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds, RenewTime: &now},
		}, metav1.CreateOptions{})
	}
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
}

func (k *controller) reconcile(ctx context.Context) error {
	list, err := k.c.peerings.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for i := range list.Items {
		p := &list.Items[i]
		if p.DeletionTimestamp != nil {
			err = errors.Join(err, k.clean(ctx, p))
			continue
		}
		err = errors.Join(err, k.serve(ctx, p))
	}
	return err
}

func (k *controller) serve(ctx context.Context, p *v1alpha1.Peering) error {
	var want []string
	if p.Spec.Borrow != nil {
		want = append(want, finalizerConsumer)
	}
	if p.Spec.Share != nil {
		want = append(want, finalizerProvider)
	}
	if !slices.Equal(p.Finalizers, want) {
		if p.Spec.Borrow == nil {
			_ = k.c.kube.CoreV1().Nodes().Delete(ctx, nodePrefix+p.Name, metav1.DeleteOptions{})
		}
		p.Finalizers = want
		_, err := k.c.peerings.Update(ctx, p, metav1.UpdateOptions{})
		return err
	}
	status := *p.Status.DeepCopy()
	if p.Spec.Share != nil {
		if err := k.serveTenant(ctx, p, &status); err != nil {
			return err
		}
	}
	if p.Spec.Borrow != nil {
		if err := k.serveNode(ctx, p, &status); err != nil {
			return err
		}
	}
	k.serveTunnel(p, &status)
	status.ObservedGeneration = p.Generation
	if equality.Semantic.DeepEqual(status, p.Status) {
		return nil
	}
	p.Status = status
	_, err := k.c.peerings.UpdateStatus(ctx, p, metav1.UpdateOptions{})
	return err
}

func (k *controller) serveTenant(ctx context.Context, p *v1alpha1.Peering, status *v1alpha1.PeeringStatus) error {
	namespace := "spillway-tenant-" + p.Name
	_, err := k.c.kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: namespace, Labels: map[string]string{v1alpha1.LabelTenant: p.Spec.ClusterID},
	}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	_, err = k.c.kube.CoreV1().Secrets(namespace).Get(ctx, "renewal", metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = k.c.kube.CoreV1().Secrets(namespace).Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: "renewal", Namespace: namespace}, Data: map[string][]byte{"token": []byte("renew-me")},
		}, metav1.CreateOptions{})
	}
	if err != nil {
		return err
	}
	status.Offer = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("16Gi")}
	status.Tenant = &v1alpha1.Tenant{Namespace: namespace, RenewalSecretName: "renewal"}
	k.say(p, status, v1alpha1.ConditionTenantReady, v1alpha1.ReasonTenantReady)
	if p.Spec.Borrow == nil {
		k.say(p, status, v1alpha1.ConditionReady, v1alpha1.ReasonPeeringReady)
	}
	return nil
}

func (k *controller) serveNode(ctx context.Context, p *v1alpha1.Peering, status *v1alpha1.PeeringStatus) error {
	secret, err := k.c.kube.CoreV1().Secrets(v1alpha1.SystemNamespace).Get(ctx, p.Spec.API.SecretName, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	reason := k.stuck
	if apierrors.IsNotFound(err) || len(secret.Data["token"]) == 0 {
		reason = v1alpha1.ReasonCredentialMissing
	}
	if reason != "" {
		k.say(p, status, v1alpha1.ConditionAuthenticated, reason)
		k.say(p, status, v1alpha1.ConditionReady, reason)
		return nil
	}
	node := nodeNameOf(p.Name, p.Spec.Borrow)
	_, err = k.c.kube.CoreV1().Nodes().Create(ctx, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: node, Labels: map[string]string{v1alpha1.LabelPeer: p.Name}},
		Status:     corev1.NodeStatus{Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("16Gi")}},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	status.Nodes = []v1alpha1.VirtualNode{{Name: node}}
	k.say(p, status, v1alpha1.ConditionAuthenticated, v1alpha1.ReasonAuthenticated)
	k.say(p, status, v1alpha1.ConditionNodeReady, v1alpha1.ReasonNodeReady)
	k.say(p, status, v1alpha1.ConditionReady, v1alpha1.ReasonPeeringReady)
	return nil
}

// serveTunnel says what this cluster is like, and that packets pass once both clusters have judged the other's ranges.
// Every cluster here has the same range, so each sees the other's under an alias.
func (k *controller) serveTunnel(p *v1alpha1.Peering, status *v1alpha1.PeeringStatus) {
	if modeOf(p) != v1alpha1.TunnelModeTunnel {
		meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ConditionTunnelUp)
		status.Tunnel = nil
		return
	}
	const pods = "10.244.0.0/16"
	local := &v1alpha1.ClusterNetwork{
		Gateways: []v1alpha1.GatewaySlot{{PublicKey: "key-of-" + k.c.context, Endpoints: p.Spec.Tunnel.Endpoints}},
		Ranges:   []v1alpha1.NetworkRange{{CIDR: pods, Kind: v1alpha1.RangePods}},
	}
	status.Tunnel = &v1alpha1.TunnelStatus{Local: local}
	reason := v1alpha1.ReasonNoNetwork
	if remote := p.Spec.Tunnel.Remote; remote != nil {
		local.SeenRanges = []string{remote.Ranges[0].CIDR}
		local.Aliases = []v1alpha1.Alias{{Range: pods, As: "100.64.0.0/16"}}
		if reason = v1alpha1.ReasonAliasPending; len(remote.SeenRanges) > 0 {
			reason = v1alpha1.ReasonTunnelUp
			rtt := metav1.Duration{Duration: 430 * time.Microsecond}
			status.Tunnel.Paths = []v1alpha1.TunnelPath{{Node: "gate", Up: true, Transport: "UDP", MTU: 1420, RTT: &rtt}}
		}
	}
	if k.deaf {
		reason = v1alpha1.ReasonNoHandshake
	}
	k.say(p, status, v1alpha1.ConditionTunnelUp, reason)
	if reason != v1alpha1.ReasonTunnelUp {
		k.say(p, status, v1alpha1.ConditionReady, reason)
	}
}

// say sets a condition: True when its reason is one of success.
func (k *controller) say(p *v1alpha1.Peering, status *v1alpha1.PeeringStatus, conditionType, reason string) {
	c := metav1.Condition{Type: conditionType, Status: metav1.ConditionFalse, Reason: reason, ObservedGeneration: p.Generation}
	if reason == conditionType || reason == v1alpha1.ReasonPeeringReady {
		c.Status = metav1.ConditionTrue
	}
	meta.SetStatusCondition(&status.Conditions, c)
}

// clean does what the finalizers stand for.
func (k *controller) clean(ctx context.Context, p *v1alpha1.Peering) error {
	nodes, err := virtualNodes(ctx, k.c, p.Name)
	if err != nil {
		return err
	}
	for _, node := range nodes {
		pods, err := k.c.kube.CoreV1().Pods("").List(ctx, onNode(node.Name))
		if err != nil {
			return err
		}
		for _, pod := range pods.Items {
			if err := k.c.kube.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
				return err
			}
		}
		if err := k.c.kube.CoreV1().Nodes().Delete(ctx, node.Name, metav1.DeleteOptions{}); err != nil {
			return err
		}
	}
	if p.Status.Tenant != nil {
		_ = k.c.kube.CoreV1().Secrets(p.Status.Tenant.Namespace).Delete(ctx, "renewal", metav1.DeleteOptions{})
		_ = k.c.kube.CoreV1().Namespaces().Delete(ctx, p.Status.Tenant.Namespace, metav1.DeleteOptions{})
	}
	p.Finalizers = nil
	_, err = k.c.peerings.Update(ctx, p, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func secretsOf(c *cluster) source[*corev1.Secret] {
	secrets := c.kube.CoreV1().Secrets(metav1.NamespaceAll)
	return source[*corev1.Secret]{
		list: func(ctx context.Context, opts metav1.ListOptions) ([]*corev1.Secret, string, error) {
			list, err := secrets.List(ctx, opts)
			if err != nil {
				return nil, "", err
			}
			return pointers(list.Items), list.ResourceVersion, nil
		},
		watch: secrets.Watch,
	}
}
