package peering

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	coreac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// ensureEvery is how often what a tenant needs is applied again although nothing seems to have changed, so that what
// somebody deleted by hand comes back.
const ensureEvery = 5 * time.Minute

// tenants makes what the tenants of this cluster need. It belongs to one goroutine.
type tenants struct {
	cfg    *Config
	caches *providerCaches
	made   map[string]*tenantState // by name of the Peering
}

// tenantState is what was applied for a tenant in the life of this process.
type tenantState struct {
	consumer   string               // for whom the identity was made
	ensured    time.Time            // when
	namespaces map[string]homeTerms // by the consumer's name: as made
	quotas     map[string]amounts   // by name here
	open       map[string]bool      // by the consumer's name: the tenant was let in
	names      map[string]string    // by the consumer's name: as chosen
}

func validNamespace(name string) bool { return len(validation.IsDNS1123Label(name)) == 0 }

// ensure makes everything for the tenant of a Peering and fills in the status. It writes only what differs from what it
// applied last. It returns whether a namespace is not complete yet: call it again soon.
func (t *tenants) ensure(ctx context.Context, p *v1alpha1.Peering, status *v1alpha1.PeeringStatus, now time.Time) (waiting bool, err error) {
	want := tenant{peering: p.Name, consumer: p.Spec.ClusterID, share: *p.Spec.Share, ranges: seenRanges(&p.Spec)}
	state := t.made[p.Name]
	if state == nil || now.Sub(state.ensured) > ensureEvery {
		state = &tenantState{
			ensured: now, namespaces: map[string]homeTerms{}, quotas: map[string]amounts{}, open: map[string]bool{},
			names: map[string]string{},
		}
		t.made[p.Name] = state
	}
	t.forgetGone()
	if err := t.ensureIdentity(ctx, want, state); err != nil {
		return false, err
	}
	requests, _ := t.caches.requests.Get(want.namespace(), requestsConfigMap)
	wanted := requestedNamespaces(requests)
	if want.names, err = t.chooseNames(ctx, want, state, requests); err != nil {
		return false, err
	}
	made, stuck := t.ensureNamespaces(ctx, want, state, wanted)
	o := t.caches.ledger.offer(&want.share, t.caches.namespacesOf(want.consumer))
	if err := t.ensureQuotas(ctx, want, state, o, made); err != nil {
		return false, errors.Join(stuck, err)
	}
	open, err := t.openNamespaces(ctx, want, state, made)
	if err != nil {
		return false, errors.Join(stuck, err)
	}
	status.Offer, status.NodeLabels = o.total.list(), o.labels
	status.Tenant = &v1alpha1.Tenant{
		Namespace: want.namespace(), RenewalSecretName: renewalSecret, IngressClassName: want.share.IngressClassName, Namespaces: open,
	}
	status.Tenant.DNS = t.cfg.Network.DNS.tenantDNS(&p.Spec, status)
	return len(open) < len(made), stuck
}

// forgetGone sees to it that a namespace that somebody has deleted is made again.
func (t *tenants) forgetGone() {
	for _, ns := range t.caches.takeGone() {
		for _, state := range t.made {
			if state.consumer != ns.Labels[v1alpha1.LabelTenant] {
				continue
			}
			if local, isHome := ns.Annotations[annotationOriginNamespace]; isHome {
				delete(state.namespaces, local)
				delete(state.open, local)
				delete(state.names, local)
				delete(state.quotas, ns.Name)
			}
		}
	}
}

func (t *tenants) ensureIdentity(ctx context.Context, want tenant, state *tenantState) error {
	if state.consumer == want.consumer {
		return nil
	}
	id, opts := want.identity(), metav1.ApplyOptions{FieldManager: v1alpha1.FieldManager, Force: true}
	ns, core, rbac := want.namespace(), t.cfg.Client.CoreV1(), t.cfg.Client.RbacV1()
	if err := t.applyNamespace(ctx, want, ns, func() error {
		_, err := core.Namespaces().Apply(ctx, id.namespace, opts)
		return err
	}); err != nil {
		return err
	}
	for _, a := range id.accounts {
		if _, err := core.ServiceAccounts(ns).Apply(ctx, a, opts); err != nil {
			return fmt.Errorf("apply ServiceAccount %s/%s: %w", ns, *a.Name, err)
		}
	}
	if _, err := core.Secrets(ns).Apply(ctx, id.secret, opts); err != nil {
		return fmt.Errorf("apply Secret %s/%s: %w", ns, renewalSecret, err)
	}
	for _, cm := range []*coreac.ConfigMapApplyConfiguration{id.requests, id.network} {
		if _, err := core.ConfigMaps(ns).Apply(ctx, cm, opts); err != nil {
			return fmt.Errorf("apply ConfigMap %s/%s: %w", ns, *cm.Name, err)
		}
	}
	for _, b := range append(id.bindings, id.usage) {
		if _, err := rbac.RoleBindings(*b.Namespace).Apply(ctx, b, opts); err != nil {
			return missingRole(fmt.Errorf("apply RoleBinding %s/%s: %w", *b.Namespace, *b.Name, err))
		}
	}
	if _, err := rbac.ClusterRoles().Apply(ctx, id.clusterRole, opts); err != nil {
		return fmt.Errorf("apply ClusterRole %s: %w", want.clusterObject(), err)
	}
	if _, err := rbac.ClusterRoleBindings().Apply(ctx, id.clusterBinding, opts); err != nil {
		return fmt.Errorf("apply ClusterRoleBinding %s: %w", want.clusterObject(), err)
	}
	state.consumer = want.consumer
	return nil
}

// applyNamespace makes a namespace, unless one of that name is there that is not this tenant's.
func (t *tenants) applyNamespace(ctx context.Context, want tenant, name string, apply func() error) error {
	have, err := t.cfg.Client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return fmt.Errorf("get namespace %s: %w", name, err)
	case have.Labels[v1alpha1.LabelTenant] != want.consumer:
		return fmt.Errorf("namespace %s exists and does not belong to this tenant (label %s): remove or rename it",
			name, v1alpha1.LabelTenant)
	case have.DeletionTimestamp != nil:
		return fmt.Errorf("namespace %s is still being deleted: it is made again when it is gone", name)
	}
	if err := apply(); err != nil {
		return fmt.Errorf("apply namespace %s: %w", name, err)
	}
	return nil
}

// ensureNamespaces makes the namespaces that are wanted and drops the others. It lists those that are there: one that
// cannot be made, because it is still being deleted for example, does not hold up the others.
func (t *tenants) ensureNamespaces(ctx context.Context, want tenant, state *tenantState, wanted []string) (made []string, err error) {
	var stuck []error
	for _, local := range wanted {
		if made, done := state.namespaces[local]; !done || made != want.terms() {
			if err := t.ensureHome(ctx, want, local); err != nil {
				stuck = append(stuck, err)
				delete(state.names, local) // somebody may have taken the name meanwhile
				continue
			}
			state.namespaces[local] = want.terms()
		}
		made = append(made, local)
	}
	if err := t.dropNamespaces(ctx, want, state, wanted); err != nil {
		stuck = append(stuck, err)
	}
	return made, errors.Join(stuck...)
}

// chooseNames says how the namespaces that are asked for are called here: those that are there keep their names. A wish is
// granted if the provider's administrator lets tenants choose, and the name is free.
func (t *tenants) chooseNames(ctx context.Context, want tenant, state *tenantState, requests *corev1.ConfigMap) (map[string]string, error) {
	for _, ns := range t.caches.namespaces.Index(indexTenant, want.consumer) {
		if local, isHome := ns.Annotations[annotationOriginNamespace]; isHome && ns.DeletionTimestamp == nil {
			state.names[local] = ns.Name
		}
	}
	for _, local := range requestedNamespaces(requests) {
		name := wishedName(local, requests.Data[local])
		if state.names[local] != "" || !want.mayShare(name) {
			continue
		}
		_, err := t.cfg.Client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err) && !slices.Contains(slices.Collect(maps.Values(state.names)), name):
			state.names[local] = name
		case apierrors.IsNotFound(err):
			state.names[local] = want.namespaceName(local)
		case err != nil:
			return nil, fmt.Errorf("get namespace %s: %w", name, err)
		default:
			state.names[local] = want.namespaceName(local)
		}
	}
	return state.names, nil
}

func (t *tenants) ensureHome(ctx context.Context, want tenant, local string) error {
	h, name := want.home(local), want.namespaceName(local)
	opts := metav1.ApplyOptions{FieldManager: v1alpha1.FieldManager, Force: true}
	core := t.cfg.Client.CoreV1()
	if err := t.applyNamespace(ctx, want, name, func() error {
		_, err := core.Namespaces().Apply(ctx, h.namespace, opts)
		return err
	}); err != nil {
		return err
	}
	if _, err := core.LimitRanges(name).Apply(ctx, h.defaults, opts); err != nil {
		return fmt.Errorf("apply LimitRange %s/%s: %w", name, objectName, err)
	}
	for _, policy := range h.policies {
		if _, err := t.cfg.Client.NetworkingV1().NetworkPolicies(name).Apply(ctx, policy, opts); err != nil {
			return fmt.Errorf("apply NetworkPolicy %s/%s: %w", name, *policy.Name, err)
		}
	}
	return nil
}

// openNamespaces lets the tenant into those of its namespaces that are complete, and lists all that are open.
func (t *tenants) openNamespaces(ctx context.Context, want tenant, state *tenantState, wanted []string) ([]v1alpha1.TenantNamespace, error) {
	var open []v1alpha1.TenantNamespace
	for _, local := range wanted {
		name := want.namespaceName(local)
		if !state.open[local] {
			complete, err := t.complete(ctx, name)
			if err != nil {
				return nil, err
			}
			if !complete {
				continue
			}
			_, err = t.cfg.Client.RbacV1().RoleBindings(name).Apply(ctx, want.home(local).binding,
				metav1.ApplyOptions{FieldManager: v1alpha1.FieldManager, Force: true})
			if err != nil {
				return nil, missingRole(fmt.Errorf("apply RoleBinding %s/%s: %w", name, objectName, err))
			}
			state.open[local] = true
		}
		open = append(open, v1alpha1.TenantNamespace{Name: local, RemoteName: name})
	}
	return open, nil
}

// complete says whether pods can be made in a namespace and are counted there. Kubernetes sees to both a moment after
// the namespace and its quota were made: without the ServiceAccount every pod is refused, and without the quota's status
// none is.
func (t *tenants) complete(ctx context.Context, namespace string) (bool, error) {
	core := t.cfg.Client.CoreV1()
	if _, err := core.ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{}); apierrors.IsNotFound(err) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("get ServiceAccount %s/default: %w", namespace, err)
	}
	quota, err := core.ResourceQuotas(namespace).Get(ctx, objectName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("get ResourceQuota %s/%s: %w", namespace, objectName, err)
	}
	return len(quota.Status.Hard) >= len(quota.Spec.Hard), nil
}

// missingRole says what to look at when a tenant's role cannot be bound.
func missingRole(err error) error {
	return fmt.Errorf("%w (the roles %s, %s, %s and %s come with the installation: charts/spillway/templates/rbac.yaml)",
		err, roleTenant, roleIdentity, roleRenewal, roleUsage)
}

// dropNamespaces deletes the namespaces that the tenant no longer asks for. The consumer takes a name back only after
// its pods there have ended.
func (t *tenants) dropNamespaces(ctx context.Context, want tenant, state *tenantState, wanted []string) error {
	for _, ns := range t.caches.namespaces.Index(indexTenant, want.consumer) {
		local, isHome := ns.Annotations[annotationOriginNamespace]
		if !isHome || ns.DeletionTimestamp != nil || slices.Contains(wanted, local) {
			continue
		}
		if err := t.deleteNamespace(ctx, ns); err != nil {
			return err
		}
		delete(state.namespaces, local)
		delete(state.open, local)
		delete(state.names, local)
		delete(state.quotas, ns.Name)
	}
	return nil
}

func (t *tenants) deleteNamespace(ctx context.Context, ns *corev1.Namespace) error {
	err := t.cfg.Client.CoreV1().Namespaces().Delete(ctx, ns.Name, metav1.DeleteOptions{
		Preconditions: metav1.NewUIDPreconditions(string(ns.UID)),
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete namespace %s: %w", ns.Name, err)
	}
	return nil
}

func (t *tenants) ensureQuotas(ctx context.Context, want tenant, state *tenantState, o offer, wanted []string) error {
	names := map[string]bool{}
	for _, local := range wanted {
		names[want.namespaceName(local)] = true
	}
	opts := metav1.ApplyOptions{FieldManager: v1alpha1.FieldManager, Force: true}
	for namespace, hard := range quotas(o, names) {
		if maps.Equal(state.quotas[namespace], hard) && state.quotas[namespace] != nil {
			continue
		}
		if _, err := t.cfg.Client.CoreV1().ResourceQuotas(namespace).Apply(ctx, want.quota(namespace, hard), opts); err != nil {
			return fmt.Errorf("apply ResourceQuota %s/%s: %w", namespace, objectName, err)
		}
		state.quotas[namespace] = hard
	}
	return nil
}

// remove takes away everything that was made for a tenant. It does one round and returns whether all is gone; call it
// again until then. Idempotent.
func (t *tenants) remove(ctx context.Context, p *v1alpha1.Peering) (gone bool, err error) {
	want := tenant{peering: p.Name, consumer: p.Spec.ClusterID}
	delete(t.made, p.Name)
	rbac := t.cfg.Client.RbacV1()
	for _, del := range []func() error{
		func() error {
			return rbac.ClusterRoleBindings().Delete(ctx, want.clusterObject(), metav1.DeleteOptions{})
		},
		func() error { return rbac.ClusterRoles().Delete(ctx, want.clusterObject(), metav1.DeleteOptions{}) },
		func() error {
			return rbac.RoleBindings(v1alpha1.SystemNamespace).Delete(ctx, want.clusterObject(), metav1.DeleteOptions{})
		},
	} {
		if err := del(); err != nil && !apierrors.IsNotFound(err) {
			return false, fmt.Errorf("delete the rights of tenant %s: %w", p.Name, err)
		}
	}
	list, err := t.cfg.Client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{
		LabelSelector: labels.Set(want.labels()).String(),
	})
	if err != nil {
		return false, fmt.Errorf("list the namespaces of tenant %s: %w", p.Name, err)
	}
	for i := range list.Items {
		if list.Items[i].DeletionTimestamp == nil {
			if err := t.deleteNamespace(ctx, &list.Items[i]); err != nil {
				return false, err
			}
		}
	}
	return len(list.Items) == 0, nil
}
