package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/storage/driver"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/cli-runtime/pkg/resource"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// remove takes away what was seen, in an order in which nothing waits for somebody who is gone already: what asks the controllers
// and agents while they work, then they, then what they have made, then the kinds and namespaces.
func (u *uninstallRun) remove(ctx context.Context) error {
	if err := u.unpeerAll(ctx); err != nil {
		return err
	}
	if err := u.dropPolicies(ctx); err != nil {
		return err
	}
	if err := u.cleanNodes(ctx); err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		do   func(context.Context) (string, error)
	}{
		{"nothing asks the webhook", u.dropWebhook}, {"the release is gone", u.dropRelease}, {"the chart's objects are gone", u.dropObjects},
		{"no pods of Spillway", u.awaitNoPods}, {"what was made for tenants is gone", u.dropTenants}, {"virtual nodes and labels are gone", u.dropNodes},
		{"the kinds are gone", u.dropKinds}, {"the namespaces are gone", u.dropNamespaces},
	} {
		if err := u.steps.run(step.name, func() (string, error) { return step.do(ctx) }); err != nil {
			return err
		}
	}
	return nil
}

// deleted turns the answer to a deletion into what counts: gone is gone.
func (u *uninstallRun) deleted(what string, err error) error {
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	u.steps.changed = u.steps.changed || err == nil
	return explain(u.home, "delete "+what, err)
}

// unpeerAll ends every Peering as unpeer does: gently when a controller works, by force else.
func (u *uninstallRun) unpeerAll(ctx context.Context) error {
	if len(u.seen.peerings) == 0 {
		return nil
	}
	alive, why, err := controllerAlive(ctx, u.home, true)
	if err != nil {
		return err
	}
	if !alive {
		u.steps.note("No controller works, so that this is done without one: %s", why)
	}
	for i := range u.seen.peerings {
		home := *u.home
		p := &unpeerRun{within: true, steps: u.steps, home: &home, peering: &u.seen.peerings[i],
			wish: unpeerWish{local: u.wish.local, remote: u.wish.local, name: u.seen.peerings[i].Name, force: !alive, timeout: u.wish.timeout}}
		home.role = "provider"
		if p.peering.Spec.Borrow != nil {
			home.role = "consumer"
		}
		finding := make(chan located, 1)
		go func() { finding <- p.locate(ctx) }()
		if err := p.remove(ctx, finding); err != nil {
			return err
		}
		u.remains = append(u.remains, p.remains...)
	}
	return nil
}

// dropPolicies deletes policies and Migrations while the controller can still let go of the pods that wait for it.
func (u *uninstallRun) dropPolicies(ctx context.Context) error {
	policies, err := u.home.policies(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return explain(u.home, "list OffloadPolicies", err)
	}
	migrations, errMigrations := u.home.migrations(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if errMigrations != nil && !apierrors.IsNotFound(errMigrations) {
		return explain(u.home, "list Migrations", errMigrations)
	}
	total := 0
	if err == nil {
		for i := range policies.Items {
			p := &policies.Items[i]
			total++
			if err := u.deleted("OffloadPolicy "+p.Name, u.home.policies(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{})); err != nil {
				return err
			}
		}
	}
	if errMigrations == nil {
		for i := range migrations.Items {
			m := &migrations.Items[i]
			total++
			if err := u.deleted("Migration "+m.Name, u.home.migrations(m.Namespace).Delete(ctx, m.Name, metav1.DeleteOptions{})); err != nil {
				return err
			}
		}
	}
	if total == 0 {
		return nil
	}
	return u.steps.run("policies and Migrations are gone", func() (string, error) { return fmt.Sprint(total), u.awaitNoGates(ctx) })
}

// allAtOnce is node.maxUnavailable of agents that clean up: nothing depends on them any more.
const allAtOnce = "100%"

// letGo is how long controllers and agents are given for what takes them moments.
const (
	letGo    = 15 * time.Second
	cleaning = 2 * time.Minute
)

// awaitNoGates waits until no pod waits for the controller to place it; what still does is told, since nobody will.
func (u *uninstallRun) awaitNoGates(ctx context.Context) error {
	short, cancel := context.WithTimeout(ctx, letGo)
	defer cancel()
	var held []string
	err := wait.PollUntilContextCancel(short, lookEvery, true, func(ctx context.Context) (bool, error) {
		pods, err := u.home.kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{FieldSelector: "status.phase=Pending"})
		if err != nil {
			return false, nil
		}
		held = held[:0]
		for i := range pods.Items {
			if slices.ContainsFunc(pods.Items[i].Spec.SchedulingGates, func(g corev1.PodSchedulingGate) bool { return g.Name == v1alpha1.GatePlacement }) {
				held = append(held, pods.Items[i].Namespace+"/"+pods.Items[i].Name)
			}
		}
		return len(held) == 0, nil
	})
	if err != nil && ctx.Err() == nil && len(held) > 0 {
		u.remains = append(u.remains, fmt.Sprintf("These pods still wait to be placed by Spillway; delete them, and their controllers make others: %s", inShort(held)))
	}
	return explain(u.home, "wait for pods to be placed", ctx.Err())
}

// cleanNodes lets the agents take out of the nodes what they have put into them.
func (u *uninstallRun) cleanNodes(ctx context.Context) error {
	if u.had == nil || u.had.Chart == nil {
		return u.noteUncleaned(ctx)
	}
	there, err := agents(ctx, u.home)
	if err != nil || there == nil {
		return explain(u.home, "read the DaemonSet "+agentName, err)
	}
	if !isCleaning(u.had.Config) {
		err = u.steps.run("the agents clean up", func() (string, error) { return "begun", u.beginCleaning(ctx) })
		if err != nil {
			return err
		}
	}
	short, cancel := context.WithTimeout(ctx, cleaning)
	defer cancel()
	err = awaitRollout(short, u.home, u.steps, func(ctx context.Context) (*rollout, error) { return agents(ctx, u.home) })
	if err == nil || ctx.Err() != nil || !errors.Is(short.Err(), context.DeadlineExceeded) {
		return err
	}
	u.remains = append(u.remains, fmt.Sprintf("Not all nodes were cleaned: %s On nodes that were away: spillwayd node clean, or a restart of the node and the removal of /var/lib/spillway.", sentence(firstLine(err))))
	return nil
}

// noteUncleaned tells of agents that nobody can ask to clean up.
func (u *uninstallRun) noteUncleaned(ctx context.Context) error {
	there, err := agents(ctx, u.home)
	if err == nil && there != nil {
		u.remains = append(u.remains, "The release was gone, so that the agents could not be asked to clean their nodes: spillwayd node clean does so, or a restart of the node.")
	}
	return explain(u.home, "read the DaemonSet "+agentName, err)
}

func (u *uninstallRun) beginCleaning(ctx context.Context) error {
	if err := u.helm.unlock(u.had, true); err != nil {
		return err
	}
	u.steps.changed = true
	values := mergeValues(map[string]any{"node": map[string]any{"clean": true, "maxUnavailable": allAtOnce}}, u.had.Config)
	next, err := u.helm.upgrade(ctx, u.had.Chart, values, false)
	if err == nil {
		u.had = next
	}
	return err
}

// firstLine is the first line of an error.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// dropWebhook comes before the pods that answer it.
func (u *uninstallRun) dropWebhook(ctx context.Context) (string, error) {
	hooks := u.home.kube.AdmissionregistrationV1().MutatingWebhookConfigurations()
	return "", u.deleted("MutatingWebhookConfiguration "+v1alpha1.WebhookName, hooks.Delete(ctx, v1alpha1.WebhookName, metav1.DeleteOptions{}))
}

// dropRelease lets Helm remove the release with its history.
func (u *uninstallRun) dropRelease(ctx context.Context) (string, error) {
	if u.had == nil {
		return "there was none", nil
	}
	un := action.NewUninstall(u.helm.config)
	un.IgnoreNotFound, un.Timeout = true, helmTimeout(ctx)
	u.steps.changed = true
	_, err := un.Run(releaseName)
	if err != nil && errors.Is(err, driver.ErrReleaseNotFound) {
		err = nil
	}
	return "", u.helm.explain("uninstall the release", err)
}

// dropObjects deletes what the release did not know of.
func (u *uninstallRun) dropObjects(ctx context.Context) (string, error) {
	background := metav1.DeletePropagationBackground
	for _, info := range u.seen.chart {
		_, err := resource.NewHelper(info.Client, info.Mapping).DeleteWithOptions(info.Namespace, info.Name, &metav1.DeleteOptions{PropagationPolicy: &background})
		if err := u.deleted(infoName(info), err); err != nil {
			return "", err
		}
	}
	return "", ctx.Err()
}

func (u *uninstallRun) awaitNoPods(ctx context.Context) (string, error) {
	return "", u.await(ctx, "pods of Spillway are still there", func(ctx context.Context) (left []string, err error) {
		for _, namespace := range []string{v1alpha1.SystemNamespace, nodeNamespace} {
			pods, err := u.home.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + releaseName})
			if err != nil {
				return nil, err
			}
			for i := range pods.Items {
				left = append(left, namespace+"/"+pods.Items[i].Name)
			}
		}
		return left, nil
	})
}

// await looks again and again until nothing is left.
func (u *uninstallRun) await(ctx context.Context, what string, look func(context.Context) (left []string, err error)) error {
	var left []string
	var last error
	err := wait.PollUntilContextCancel(ctx, lookEvery, true, func(ctx context.Context) (bool, error) {
		now, err := look(ctx)
		if last = err; err != nil {
			return false, nil
		}
		if left = now; len(left) > 0 {
			u.steps.progress("waiting for %s", inShort(left))
		}
		return len(left) == 0, nil
	})
	if errors.Is(err, context.DeadlineExceeded) && len(left) > 0 {
		return problemf("Look what holds them: kubectl get … -o yaml shows finalizers and conditions.", "%s after %s: %s", what, u.wish.timeout, inShort(left))
	}
	if err != nil && last != nil {
		err = last
	}
	return explain(u.home, "wait for the removal", err)
}

func (u *uninstallRun) dropTenants(ctx context.Context) (string, error) {
	for _, id := range u.seen.tenants {
		u.steps.changed = true
		if err := forceTenantAway(ctx, u.home, id); err != nil {
			return "", err
		}
	}
	if len(u.seen.tenants) == 0 {
		return "there was none", nil
	}
	return plural(len(u.seen.tenants), "tenant"), u.await(ctx, "namespaces of tenants are still there", func(ctx context.Context) ([]string, error) {
		return namesAt(ctx, u.home, "/api/v1/namespaces", v1alpha1.LabelTenant)
	})
}

// namesAt are the names of the objects at path that carry label.
func namesAt(ctx context.Context, c *cluster, path, label string) ([]string, error) {
	found, err := listNames(ctx, c, path, label)
	names := make([]string, len(found))
	for i := range found {
		names[i] = found[i].Name
	}
	return names, err
}

// dropNodes removes virtual nodes that no Peering had, the labels of gateways and the requests for certificates.
func (u *uninstallRun) dropNodes(ctx context.Context) (string, error) {
	for i := range u.seen.nodes {
		if err := forceNodeAway(ctx, u.home, &u.seen.nodes[i]); err != nil {
			return "", err
		}
	}
	for _, name := range u.seen.gateways {
		err := labelNode(ctx, u.home, name, "")
		if err != nil && !apierrors.IsNotFound(err) {
			return "", err
		}
		u.steps.changed = true
	}
	requests, err := u.home.kube.CertificatesV1().CertificateSigningRequests().List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", nil // they go by themselves after a while
	}
	for i := range requests.Items {
		if request := &requests.Items[i]; request.Spec.Username == controllerUser {
			err := u.home.kube.CertificatesV1().CertificateSigningRequests().Delete(ctx, request.Name, metav1.DeleteOptions{Preconditions: uidOf(request.UID)})
			if err := u.deleted("CertificateSigningRequest "+request.Name, err); err != nil {
				return "", err
			}
		}
	}
	return "", nil
}

// dropKinds deletes the CRDs and with them what is left of their objects. Nobody takes finalizers off any more.
func (u *uninstallRun) dropKinds(ctx context.Context) (string, error) {
	if len(u.seen.kinds) == 0 {
		return "", nil
	}
	list, err := u.home.peerings.List(ctx, metav1.ListOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return "", explain(u.home, "list Peerings", err)
	}
	for i := range pointersOf(list) {
		p := &list.Items[i]
		if len(p.Finalizers) == 0 {
			continue
		}
		_, err := u.home.peerings.Patch(ctx, p.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{FieldManager: managerInstall})
		if err := u.deleted("the finalizers of Peering "+p.Name, err); err != nil {
			return "", err
		}
	}
	const path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	for _, name := range u.seen.kinds {
		err := u.home.kube.Discovery().RESTClient().Delete().AbsPath(path + "/" + name).Do(ctx).Error()
		if err := u.deleted("CustomResourceDefinition "+name, err); err != nil {
			return "", err
		}
	}
	return "", u.await(ctx, "kinds of Spillway are still there", func(ctx context.Context) ([]string, error) {
		names, err := namesAt(ctx, u.home, path, "")
		return slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, "."+v1alpha1.GroupName) }), err
	})
}

// pointersOf are the items of a list that may be nil.
func pointersOf(list *v1alpha1.PeeringList) []v1alpha1.Peering {
	if list == nil {
		return nil
	}
	return list.Items
}

func (u *uninstallRun) dropNamespaces(ctx context.Context) (string, error) {
	for i := range u.seen.rooms {
		room := &u.seen.rooms[i]
		err := u.home.kube.CoreV1().Namespaces().Delete(ctx, room.Name, metav1.DeleteOptions{Preconditions: uidOf(room.UID)})
		if err := u.deleted("namespace "+room.Name, err); err != nil {
			return "", err
		}
	}
	return "", u.await(ctx, "namespaces of Spillway are still there", func(ctx context.Context) (left []string, err error) {
		for i := range u.seen.rooms {
			room, err := u.home.kube.CoreV1().Namespaces().Get(ctx, u.seen.rooms[i].Name, metav1.GetOptions{})
			switch {
			case apierrors.IsNotFound(err):
			case err != nil:
				return nil, err
			case room.UID == u.seen.rooms[i].UID:
				left = append(left, room.Name)
			}
		}
		return left, nil
	})
}
