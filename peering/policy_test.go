package peering

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	celtypes "github.com/google/cel-go/cel"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// chartPolicies are the admission policies of the chart, each of which has a binding that denies.
func chartPolicies(t *testing.T) []*admissionregistrationv1.ValidatingAdmissionPolicy {
	t.Helper()
	text, err := os.ReadFile("../charts/spillway/files/admission/tenant.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var out []*admissionregistrationv1.ValidatingAdmissionPolicy
	bound := map[string]bool{}
	for part := range strings.SplitSeq(string(text), "\n---\n") {
		policy, binding := &admissionregistrationv1.ValidatingAdmissionPolicy{}, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{}
		switch {
		case strings.Contains(part, "kind: ValidatingAdmissionPolicyBinding\n"):
			err = yaml.UnmarshalStrict([]byte(part), binding)
			bound[binding.Spec.PolicyName] = slices.Contains(binding.Spec.ValidationActions, admissionregistrationv1.Deny)
		case strings.Contains(part, "kind: ValidatingAdmissionPolicy\n"):
			err = yaml.UnmarshalStrict([]byte(part), policy)
			out = append(out, policy)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range out {
		if !bound[p.Name] || p.Spec.FailurePolicy == nil || *p.Spec.FailurePolicy != admissionregistrationv1.Fail {
			t.Errorf("policy %s denies nothing, or not when it cannot be asked", p.Name)
		}
	}
	return out
}

// said is a CEL expression of a policy.
type said struct {
	name, text string
	results    []*celtypes.Type
}

func (s said) GetName() string               { return s.name }
func (s said) GetExpression() string         { return s.text }
func (s said) ReturnTypes() []*celtypes.Type { return s.results }

// judge returns what the policies of the chart that are for the resource tell a user who creates o, as the API server
// evaluates them; empty when nothing speaks against it. It fails the test when an expression has an error.
func judge(t *testing.T, policies []*admissionregistrationv1.ValidatingAdmissionPolicy, username string, o metav1.Object, namespace *corev1.Namespace) (refusal string) {
	t.Helper()
	kinds, _, err := scheme.Scheme.ObjectKinds(o.(runtime.Object))
	if err != nil {
		t.Fatal(err)
	}
	resource, _ := meta.UnsafeGuessKindToResource(kinds[0])
	attr := admission.NewAttributesRecord(o.(runtime.Object), nil, kinds[0], o.GetNamespace(), o.GetName(), resource, "", admission.Create,
		&metav1.CreateOptions{}, false, &user.DefaultInfo{Name: username})
	versioned := &admission.VersionedAttributes{Attributes: attr, VersionedObject: o.(runtime.Object), VersionedKind: kinds[0]}
	request := cel.CreateAdmissionRequest(attr, metav1.GroupVersionResource(resource), metav1.GroupVersionKind(kinds[0]))
	for _, p := range policies {
		if rule := p.Spec.MatchConstraints.ResourceRules[0]; rule.APIGroups[0] != resource.Group || rule.Resources[0] != resource.Resource {
			continue
		}
		compiler, err := cel.NewCompositedCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
		if err != nil {
			t.Fatal(err)
		}
		has := cel.OptionalVariableDeclarations{HasAuthorizer: true}
		for _, v := range p.Spec.Variables {
			compiler.CompileAndStoreVariable(said{v.Name, v.Expression, []*celtypes.Type{celtypes.AnyType, celtypes.DynType}}, has, environment.StoredExpressions)
		}
		ask := func(result *celtypes.Type, text string) any {
			evaluator := compiler.CompileCondition([]cel.ExpressionAccessor{said{"", text, []*celtypes.Type{result}}}, has, environment.StoredExpressions)
			got, _, err := evaluator.ForInput(t.Context(), versioned, request, cel.OptionalVariableBindings{}, cel.CreateNamespaceObject(namespace), celconfig.RuntimeCELCostBudget)
			if err != nil || got[0].Error != nil {
				t.Fatalf("%s: %v", text, errors.Join(err, got[0].Error))
			}
			return got[0].EvalResult.Value()
		}
		if ask(celtypes.BoolType, p.Spec.MatchConditions[0].Expression) != true {
			continue
		}
		for _, v := range p.Spec.Validations {
			if ask(celtypes.BoolType, v.Expression) == true {
				continue
			}
			if v.MessageExpression != "" {
				return ask(celtypes.StringType, v.MessageExpression).(string)
			}
			return v.Message
		}
	}
	return ""
}

func TestPolicies(t *testing.T) {
	const tenantUser, other = "system:serviceaccount:spillway-tenant-home:consumer", "alice"
	namespace := func(name, class string) *corev1.Namespace {
		home := tenant{peering: "home", consumer: "id-1", share: v1alpha1.Share{IngressClassName: class}}.home("shop")
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: home.namespace.Labels}}
	}
	namespaces := map[string]*corev1.Namespace{
		"served": namespace("served", "nginx"), "unserved": namespace("unserved", ""), "bare": {ObjectMeta: metav1.ObjectMeta{Name: "bare"}},
	}
	policies := chartPolicies(t)

	ingress := func(namespace, class string, annotations map[string]string) metav1.Object {
		in := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: namespace, Annotations: annotations}}
		if class != "" {
			in.Spec.IngressClassName = &class
		}
		return in
	}
	service := func(kind corev1.ServiceType, external ...string) metav1.Object {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "served"}, Spec: corev1.ServiceSpec{Type: kind, ExternalIPs: external}}
	}
	old := map[string]string{"kubernetes.io/ingress.class": "internal"}
	for name, row := range map[string]struct {
		object metav1.Object
		want   string // part of the refusal for a tenant; empty: none
	}{
		"an Ingress of the class":             {ingress("served", "nginx", nil), ""},
		"an Ingress of another class":         {ingress("served", "internal", nil), "the class of a tenant is nginx"},
		"an Ingress of no class":              {ingress("served", "", nil), "the class of a tenant is nginx"},
		"an Ingress with the old annotation":  {ingress("served", "nginx", old), "has no annotation kubernetes.io/ingress.class"},
		"an Ingress with another annotation":  {ingress("served", "nginx", map[string]string{"a": "b"}), ""},
		"an Ingress where none is served":     {ingress("unserved", "nginx", nil), "no Ingress of a tenant is served here"},
		"one without a class where none is":   {ingress("unserved", "", nil), "no Ingress of a tenant is served here"},
		"an Ingress in a namespace of nobody": {ingress("bare", "nginx", nil), "no Ingress of a tenant is served here"},
		"a Service":                           {service(corev1.ServiceTypeClusterIP), ""},
		"a Service that is a name":            {service(corev1.ServiceTypeExternalName), ""},
		"a Service with a port of every node": {service(corev1.ServiceTypeNodePort), "of type ClusterIP or ExternalName"},
		"a Service with a load balancer":      {service(corev1.ServiceTypeLoadBalancer), "of type ClusterIP or ExternalName"},
		"a Service with an external address":  {service(corev1.ServiceTypeClusterIP, "192.0.2.1"), "has no externalIPs"},
	} {
		t.Run(name, func(t *testing.T) {
			got := judge(t, policies, tenantUser, row.object, namespaces[row.object.GetNamespace()])
			if row.want == "" && got != "" || !strings.Contains(got, row.want) {
				t.Errorf("a tenant is told %q, want %q", got, row.want)
			}
			if got := judge(t, policies, other, row.object, namespaces[row.object.GetNamespace()]); got != "" {
				t.Errorf("somebody who is no tenant is told %q", got)
			}
		})
	}
}
