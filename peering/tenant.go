package peering

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coreac "k8s.io/client-go/applyconfigurations/core/v1"
	metaac "k8s.io/client-go/applyconfigurations/meta/v1"
	networkingac "k8s.io/client-go/applyconfigurations/networking/v1"
	rbacac "k8s.io/client-go/applyconfigurations/rbac/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// Names of what a provider makes for a tenant.
const (
	// accountConsumer is the ServiceAccount that the consumer acts as.
	accountConsumer = "consumer"
	// accountRenewal is the ServiceAccount whose only right is to request tokens for accountConsumer.
	accountRenewal = "renewal"
	// renewalSecret holds the long-lived token of accountRenewal.
	renewalSecret = "renewal-token"
	// requestsConfigMap is where the tenant names, as keys, the namespaces it needs. Values are empty.
	requestsConfigMap = "namespaces"
	// The roles that tenants get. They come with the installation: this process may bind these and no others.
	roleTenant   = "spillway-tenant"          // inside a tenant's namespaces
	roleIdentity = "spillway-tenant-identity" // in the namespace of its identity
	roleRenewal  = "spillway-tenant-renewal"  // of the long-lived credential
	roleUsage    = "spillway-tenant-usage"    // in the namespace of Spillway

	objectName   = "spillway"          // of the RoleBinding, ResourceQuota, LimitRange and NetworkPolicy of a tenant namespace
	isolatedName = "spillway-isolated" // of its other NetworkPolicy

	annotationOriginNamespace = v1alpha1.AnnotationOriginNamespace
	labelPodSecurity          = "pod-security.kubernetes.io/enforce"
)

// tenant names what a provider makes for one consumer. Pure: it builds what should be there.
type tenant struct {
	peering  string // name of the Peering
	consumer string // the consumer's cluster id
	share    v1alpha1.Share
	ranges   []string // of the consumer, as seen here

	names map[string]string // by the consumer's name: namespaces that are called otherwise than usual
}

// seenRanges are the ranges of a Peering's peer as seen here, sorted; none without a tunnel of ours.
func seenRanges(spec *v1alpha1.PeeringSpec) []string {
	var out []string
	if table := seenAs(spec); table != nil {
		for _, a := range table.Aliases() {
			out = append(out, a.As.String())
		}
	}
	slices.Sort(out)
	return out
}

// namespace of the tenant's identity.
func (t tenant) namespace() string { return "spillway-tenant-" + t.peering }

// clusterObject is the name of the tenant's cluster-wide role, to read its own Peering and nothing else, and of what else of it is
// in no namespace of its own.
func (t tenant) clusterObject() string { return "spillway-tenant-" + t.peering }

func (t tenant) labels() map[string]string {
	return map[string]string{v1alpha1.LabelTenant: t.consumer}
}

// namespaceName is the name at the provider of a namespace of the consumer: what was chosen for it, or the same name, and
// what tells consumers apart. The consumer's id is hashed, since ids need not differ in their first characters.
func (t tenant) namespaceName(local string) string {
	if name := t.names[local]; name != "" {
		return name
	}
	sum := sha256.Sum256([]byte(t.consumer))
	suffix := "-" + hex.EncodeToString(sum[:4])
	const longest = 63
	if len(local)+len(suffix) > longest {
		whole := sha256.Sum256([]byte(local))
		local = local[:longest-len(suffix)-9] + "-" + hex.EncodeToString(whole[:4])
	}
	return local + suffix
}

// mayShare says whether a tenant may have a namespace of a name without suffix, if it is free: not where others rely on what a
// name means.
func (t tenant) mayShare(name string) bool {
	return t.share.NamespaceNames == v1alpha1.NamespaceNamesSameIfFree && name != metav1.NamespaceDefault && validNamespace(name) &&
		!strings.HasPrefix(name, "kube-") && !strings.HasPrefix(name, "spillway-") && !strings.HasPrefix(name, "openshift-")
}

// identity is what gives the consumer its way in.
type identity struct {
	namespace      *coreac.NamespaceApplyConfiguration
	accounts       []*coreac.ServiceAccountApplyConfiguration
	secret         *coreac.SecretApplyConfiguration
	requests       *coreac.ConfigMapApplyConfiguration
	network        *coreac.ConfigMapApplyConfiguration
	bindings       []*rbacac.RoleBindingApplyConfiguration
	usage          *rbacac.RoleBindingApplyConfiguration // in SystemNamespace
	clusterRole    *rbacac.ClusterRoleApplyConfiguration
	clusterBinding *rbacac.ClusterRoleBindingApplyConfiguration
}

func clusterRole(name string) *rbacac.RoleRefApplyConfiguration {
	return rbacac.RoleRef().WithAPIGroup(rbacv1.GroupName).WithKind("ClusterRole").WithName(name)
}

func (t tenant) identity() identity {
	ns, labels := t.namespace(), t.labels()
	account := func(name string) *rbacac.SubjectApplyConfiguration {
		return rbacac.Subject().WithKind(rbacv1.ServiceAccountKind).WithNamespace(ns).WithName(name)
	}
	bind := func(name, role string) *rbacac.RoleBindingApplyConfiguration {
		return rbacac.RoleBinding(name, ns).WithLabels(labels).WithSubjects(account(name)).WithRoleRef(clusterRole(role))
	}
	return identity{
		namespace: coreac.Namespace(ns).WithLabels(labels),
		accounts: []*coreac.ServiceAccountApplyConfiguration{
			coreac.ServiceAccount(accountConsumer, ns).WithLabels(labels).WithAutomountServiceAccountToken(false),
			coreac.ServiceAccount(accountRenewal, ns).WithLabels(labels).WithAutomountServiceAccountToken(false),
		},
		secret: coreac.Secret(renewalSecret, ns).WithLabels(labels).
			WithType(corev1.SecretTypeServiceAccountToken).
			WithAnnotations(map[string]string{corev1.ServiceAccountNameKey: accountRenewal}),
		requests: coreac.ConfigMap(requestsConfigMap, ns).WithLabels(labels),
		network:  coreac.ConfigMap(networkConfigMap, ns).WithLabels(labels),
		bindings: []*rbacac.RoleBindingApplyConfiguration{
			bind(accountRenewal, roleRenewal), bind(accountConsumer, roleIdentity),
		},
		usage: rbacac.RoleBinding(t.clusterObject(), v1alpha1.SystemNamespace).WithLabels(labels).
			WithSubjects(account(accountConsumer)).WithRoleRef(clusterRole(roleUsage)),
		clusterRole: rbacac.ClusterRole(t.clusterObject()).WithLabels(labels).WithRules(
			rbacac.PolicyRule().WithAPIGroups(v1alpha1.GroupName).WithResources(v1alpha1.PeeringResource.Resource).
				WithResourceNames(t.peering).WithVerbs("get", "list", "watch")),
		clusterBinding: rbacac.ClusterRoleBinding(t.clusterObject()).WithLabels(labels).
			WithSubjects(account(accountConsumer)).
			WithRoleRef(clusterRole(t.clusterObject())),
	}
}

// homeTerms is what a namespace of the tenant says of what may be in it.
type homeTerms struct {
	podSecurity  v1alpha1.PodSecurityLevel
	ingressClass string // empty: no Ingress
	ranges       string // that its pods are reached from
}

func (t tenant) terms() homeTerms {
	level := t.share.PodSecurity
	if level == "" {
		level = v1alpha1.PodSecurityBaseline
	}
	return homeTerms{podSecurity: level, ingressClass: t.share.IngressClassName, ranges: strings.Join(t.ranges, " ")}
}

// home is a namespace in which the tenant's pods run.
type home struct {
	namespace *coreac.NamespaceApplyConfiguration
	binding   *rbacac.RoleBindingApplyConfiguration
	defaults  *coreac.LimitRangeApplyConfiguration
	policies  []*networkingac.NetworkPolicyApplyConfiguration
}

// home builds the namespace that stands for a namespace of the consumer.
func (t tenant) home(local string) home {
	name, labels := t.namespaceName(local), t.labels()
	zero := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("0"), corev1.ResourceMemory: resource.MustParse("0")}
	nsLabels, terms := maps.Clone(labels), t.terms()
	nsLabels[labelPodSecurity] = string(terms.podSecurity)
	if terms.ingressClass != "" {
		nsLabels[v1alpha1.LabelIngressClass] = terms.ingressClass
	}
	return home{
		namespace: coreac.Namespace(name).WithLabels(nsLabels).
			WithAnnotations(map[string]string{annotationOriginNamespace: local}),
		binding: rbacac.RoleBinding(objectName, name).WithLabels(labels).
			WithSubjects(rbacac.Subject().WithKind(rbacv1.ServiceAccountKind).
				WithNamespace(t.namespace()).WithName(accountConsumer)).
			WithRoleRef(clusterRole(roleTenant)),
		// A quota on requests refuses pods without any: such pods request nothing here, as they did at home.
		defaults: coreac.LimitRange(objectName, name).WithLabels(labels).WithSpec(coreac.LimitRangeSpec().WithLimits(
			coreac.LimitRangeItem().WithType(corev1.LimitTypeContainer).WithDefaultRequest(zero))),
		policies: t.policies(name),
	}
}

// policies say who may reach pods of the tenant in one of its namespaces: its friends, but for pods that NetworkPolicies of its
// own cluster select. Policies only ever add: those pods are reached by whom the reflected ones name, and until these are there
// by nobody.
func (t tenant) policies(namespace string) []*networkingac.NetworkPolicyApplyConfiguration {
	isolated := func(is metav1.LabelSelectorOperator) *metaac.LabelSelectorApplyConfiguration {
		return metaac.LabelSelector().WithMatchExpressions(
			metaac.LabelSelectorRequirement().WithKey(v1alpha1.LabelIsolated).WithOperator(is))
	}
	return []*networkingac.NetworkPolicyApplyConfiguration{
		networkingac.NetworkPolicy(objectName, namespace).WithLabels(t.labels()).WithSpec(networkingac.NetworkPolicySpec().
			WithPodSelector(isolated(metav1.LabelSelectorOpDoesNotExist)).WithPolicyTypes(networkingv1.PolicyTypeIngress).
			WithIngress(networkingac.NetworkPolicyIngressRule().WithFrom(t.friends()...))),
		networkingac.NetworkPolicy(isolatedName, namespace).WithLabels(t.labels()).WithSpec(networkingac.NetworkPolicySpec().
			WithPodSelector(isolated(metav1.LabelSelectorOpExists)).WithPolicyTypes(networkingv1.PolicyTypeIngress)),
	}
}

// friends are who may reach pods of the tenant: its other namespaces here, its own cluster through the tunnel, and whoever
// serves its Ingresses.
func (t tenant) friends() []*networkingac.NetworkPolicyPeerApplyConfiguration {
	out := []*networkingac.NetworkPolicyPeerApplyConfiguration{
		networkingac.NetworkPolicyPeer().WithNamespaceSelector(metaac.LabelSelector().WithMatchLabels(t.labels())),
	}
	if class := t.share.IngressClassName; class != "" {
		controller := map[string]string{v1alpha1.LabelIngressController: class}
		out = append(out, networkingac.NetworkPolicyPeer().WithNamespaceSelector(metaac.LabelSelector().WithMatchLabels(controller)))
	}
	for _, r := range t.ranges {
		out = append(out, networkingac.NetworkPolicyPeer().WithIPBlock(networkingac.IPBlock().WithCIDR(r)))
	}
	return out
}

// quota builds what the tenant may request in one of its namespaces.
func (t tenant) quota(namespace string, hard amounts) *coreac.ResourceQuotaApplyConfiguration {
	list := corev1.ResourceList{}
	for name, q := range hard.list() {
		list[quotaName(name)] = q
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers} {
		list[name] = resource.MustParse("0") // shown to the outside at home
	}
	return coreac.ResourceQuota(objectName, namespace).WithLabels(t.labels()).
		WithSpec(coreac.ResourceQuotaSpec().WithHard(list))
}

// quotaName is the name under which a quota counts the requests for a resource.
func quotaName(name corev1.ResourceName) corev1.ResourceName {
	if name == corev1.ResourcePods {
		return name
	}
	return corev1.DefaultResourceRequestsPrefix + name
}

// requestedNamespaces reads, sorted, what the tenant asks for. The provider trusts nothing the consumer writes: what is
// no name of a namespace is passed over.
func requestedNamespaces(requests *corev1.ConfigMap) []string {
	if requests == nil {
		return nil
	}
	var out []string
	for name := range requests.Data {
		if validNamespace(name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}
