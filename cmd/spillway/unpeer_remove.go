package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// remove takes the peering away at both ends: first where pods come home, then where they ran.
func (u *unpeerRun) remove(ctx context.Context, finding <-chan located) error {
	home := removalAtHome(u.home, u.peering, u.wish.borrowOnly)
	alive, err := u.mayRemove(ctx, home)
	if err != nil {
		<-finding
		return err
	}
	if u.peering.Spec.Borrow == nil {
		u.other = <-finding
		u.sayRemote()
		if err := u.removeAtPeer(ctx); err != nil {
			return err
		}
		if err := u.removeAt(ctx, home, alive); err != nil {
			return err
		}
		u.farewell()
		return nil
	}
	if err := u.removeAt(ctx, home, alive); err != nil {
		<-finding
		return err
	}
	u.other = <-finding
	u.sayRemote()
	if err := u.removeAtPeer(ctx); err != nil {
		return err
	}
	u.farewell()
	return nil
}

// mayRemove checks, before anything is written, the rights and that somebody is there to do the work.
func (u *unpeerRun) mayRemove(ctx context.Context, r removal) (alive bool, err error) {
	rights := peeringRights("get", "list", "watch", "delete")
	if !r.whole() {
		rights = peeringRights("get", "list", "watch", "patch")
	}
	if r.borrow {
		rights = append(rights, right{verb: "watch", resource: "pods"}, right{verb: "watch", resource: "nodes"})
	}
	if err := checkRights(ctx, r.cluster, rights); err != nil {
		return false, err
	}
	alive, why, err := controllerAlive(ctx, r.cluster, !u.wish.force)
	if err != nil || alive || u.wish.force {
		return alive, err
	}
	p := noController(r.cluster, why)
	p.do = sentence(p.do) + " Or repeat the command with --force, which removes everything from here without ending pods gently."
	return false, p
}

// removeAtPeer takes the peering away in the other cluster, if it can be reached and somebody works there; otherwise
// it notes what remains.
func (u *unpeerRun) removeAtPeer(ctx context.Context) error {
	if u.other.cluster == nil {
		u.remains = append(u.remains, u.leftover())
		return nil
	}
	if u.other.peering == nil {
		u.steps.note("The cluster of context %q has no Peering for this one: nothing to remove there.", u.other.cluster.context)
		return nil
	}
	r := removalAtPeer(u.other.cluster, u.other.peering, u.wish.borrowOnly)
	if !r.borrow && !r.share {
		return nil
	}
	alive, err := u.mayRemove(ctx, r)
	if err != nil {
		u.steps.note("%s", err)
		u.remains = append(u.remains, u.leftover())
		return nil
	}
	return u.removeAt(ctx, r, alive)
}

// removeAt takes r away and waits until it is gone. alive says whether a controller works there; without one
// everything is done from here.
func (u *unpeerRun) removeAt(ctx context.Context, r removal, alive bool) error {
	c, name := r.cluster, r.peering.Name
	if !alive {
		return u.steps.run(c.role+": Peering "+name+" is gone", func() (string, error) { return "by force", u.forceAway(ctx, r) })
	}
	err := u.steps.run(c.role+": removal of "+name+" begun", func() (string, error) { return u.begin(ctx, r) })
	if err != nil {
		return err
	}
	if r.borrow {
		if err := u.awaitEmpty(ctx, r); err != nil {
			return err
		}
	}
	err = u.steps.run(c.role+": Peering "+name+" "+r.end(), func() (string, error) { return "", u.awaitFinished(ctx, r) })
	if err != nil || !r.borrow {
		return err
	}
	return u.steps.run(c.role+": credential is gone", func() (string, error) { return "", removeSecret(ctx, r) })
}

// begin asks for the removal; the controllers see it and start.
func (u *unpeerRun) begin(ctx context.Context, r removal) (string, error) {
	c, p := r.cluster, r.peering
	if !r.whole() {
		_, err := c.peerings.Patch(ctx, p.Name, types.MergePatchType, []byte(r.patch()), metav1.PatchOptions{FieldManager: managerBorrow})
		u.steps.changed = u.steps.changed || err == nil
		return "", explain(c, "change Peering "+p.Name, err)
	}
	if p.DeletionTimestamp != nil {
		return "already under way", nil
	}
	err := c.peerings.Delete(ctx, p.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(p.UID))})
	if apierrors.IsNotFound(err) {
		return "already gone", nil
	}
	u.steps.changed = u.steps.changed || err == nil
	return "", explain(c, "delete Peering "+p.Name, err)
}

// awaitEmpty waits until the virtual nodes of r have no pods and are gone.
func (u *unpeerRun) awaitEmpty(ctx context.Context, r removal) error {
	nodes, err := virtualNodes(ctx, r.cluster, r.peering.Name)
	if err != nil {
		return err
	}
	for i := range nodes {
		node := nodes[i].Name
		err := u.steps.run(r.cluster.role+": no pods on node "+node, func() (string, error) { return u.awaitNoPods(ctx, r.cluster, node) })
		if err != nil {
			return err
		}
		err = u.steps.run(r.cluster.role+": node "+node+" is gone", func() (string, error) { return "", u.awaitNoNode(ctx, r.cluster, &nodes[i]) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (u *unpeerRun) awaitNoPods(ctx context.Context, c *cluster, node string) (string, error) {
	most, left := 0, []string(nil)
	err := follow(ctx, podsOf(c), onNode(node), func(pods map[string]*corev1.Pod) bool {
		most = max(most, len(pods))
		left = left[:0]
		for name := range pods {
			left = append(left, name)
		}
		if len(left) == 0 {
			return true
		}
		u.steps.progress("%s left on node %s", plural(len(left), "pod"), node)
		return false
	})
	slices.Sort(left)
	if len(left) > 5 {
		left = append(left[:5], "…")
	}
	return plural(most, "pod") + " went", u.late(ctx, c, err, fmt.Sprintf("pods are still on node %s: %s", node, strings.Join(left, ", ")))
}

func (u *unpeerRun) awaitNoNode(ctx context.Context, c *cluster, node *corev1.Node) error {
	if kept := keptVolumes(ctx, c, node); kept != "" {
		u.steps.progress("node %s stays%s", node.Name, kept)
	}
	err := follow(ctx, nodesOf(c), named(node.Name), func(nodes map[string]*corev1.Node) bool {
		now, there := nodes["/"+node.Name]
		return !there || now.UID != node.UID
	})
	what := fmt.Sprintf("node %s is still there", node.Name)
	if err != nil {
		what += keptVolumes(context.WithoutCancel(ctx), c, node)
	}
	return u.late(ctx, c, err, what)
}

func (u *unpeerRun) awaitFinished(ctx context.Context, r removal) error {
	name := r.peering.Name
	holding := ""
	err := follow(ctx, peeringsOf(r.cluster), named(name), func(found map[string]*v1alpha1.Peering) bool {
		now := found["/"+name]
		if r.finished(now) {
			return true
		}
		holding = strings.Join(now.Finalizers, ", ")
		u.steps.progress("waiting for %s", holding)
		return false
	})
	return u.late(ctx, r.cluster, err, fmt.Sprintf("the Peering %q is still held by %s", name, orDash(holding)))
}

// late turns the error of a wait into a problem: what says what has not happened.
func (u *unpeerRun) late(ctx context.Context, c *cluster, err error, what string) error {
	if err == nil || !errors.Is(err, context.DeadlineExceeded) {
		return explain(c, "watch the removal", err)
	}
	do := fmt.Sprintf("The removal goes on by itself: run the same command again to watch it. If it is stuck: kubectl --context %s -n %s logs deploy/spillway-controller", c.context, v1alpha1.SystemNamespace)
	// The controller was alive at the beginning; it may have died on the way.
	if alive, why, aliveErr := controllerAlive(context.WithoutCancel(ctx), c, false); aliveErr == nil && !alive {
		what += "; and spillwayd has stopped working there: " + why
		do = "Start it again, or repeat the command with --force."
	}
	return problemf(do, "un-peering has not ended after %s: in %s %s", u.wish.timeout, c.title(), what)
}

// removeSecret deletes the Secret with the credential, if it belongs to the Peering. The garbage collector would do so
// too, but not before the command ends. Somebody without the right leaves it to the collector.
func removeSecret(ctx context.Context, r removal) error {
	if r.peering.Spec.API == nil {
		return nil
	}
	secrets := r.cluster.kube.CoreV1().Secrets(v1alpha1.SystemNamespace)
	secret, err := secrets.Get(ctx, r.peering.Spec.API.SecretName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
		return nil
	}
	if err != nil {
		return explain(r.cluster, "read Secret "+r.peering.Spec.API.SecretName, err)
	}
	ours := func(owner metav1.OwnerReference) bool { return owner.UID == r.peering.UID }
	if !slices.ContainsFunc(secret.OwnerReferences, ours) {
		return nil
	}
	err = secrets.Delete(ctx, secret.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(secret.UID))})
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) || apierrors.IsConflict(err) {
		return nil
	}
	return explain(r.cluster, "delete Secret "+secret.Name, err)
}

func (u *unpeerRun) farewell() {
	if u.within {
		return
	}
	if len(u.remains) > 0 {
		u.steps.headline("Un-peered in %s; %s is clean.", shortDuration(u.steps.took()), u.home.context)
		for _, line := range u.remains {
			u.steps.headline("%s", line)
		}
		return
	}
	if u.wish.borrowOnly && u.peering.Spec.Share != nil {
		u.steps.headline("%s no longer borrows; it still shares with %s. (%s)", u.home.context, u.peering.Name, shortDuration(u.steps.took()))
		return
	}
	u.steps.headline("Un-peered in %s; nothing is left.", shortDuration(u.steps.took()))
}
