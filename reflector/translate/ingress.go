package translate

import (
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
)

// annotationIngressClass chose a class before the API had a field for it.
const annotationIngressClass = "kubernetes.io/ingress.class"

// Ingress returns the twin of local: a new object that shares nothing with it; nil where the provider serves no Ingress, or
// when nothing is left to serve. Rules, certificates and the default backend are those of home, since Services and Secrets
// keep their names; the class is the one that the provider allows. A backend that is a resource does not follow, and
// neither does its rule: without that path, its requests would reach another one.
//
// The twin's status is not taken home: home's own controller writes that of local, with addresses at home. Where requests
// for the twin arrive is for the provider and whoever points a name there.
func Ingress(local *networkingv1.Ingress, env Env) *networkingv1.Ingress {
	if env.IngressClass == "" {
		return nil
	}
	spec := *local.Spec.DeepCopy()
	spec.IngressClassName = &env.IngressClass
	if spec.DefaultBackend != nil && spec.DefaultBackend.Resource != nil {
		spec.DefaultBackend = nil
	}
	spec.Rules = nil
	for _, rule := range local.Spec.Rules {
		if !toResource(&rule) {
			spec.Rules = append(spec.Rules, *rule.DeepCopy())
		}
	}
	if len(spec.Rules) == 0 && spec.DefaultBackend == nil {
		return nil
	}
	twin := &networkingv1.Ingress{ObjectMeta: twinMeta(&local.ObjectMeta, env), Spec: spec}
	for key := range twin.Annotations {
		if key == annotationIngressClass || getsCertificates(key) {
			delete(twin.Annotations, key)
		}
	}
	return twin
}

// getsCertificates says whether an annotation asks cert-manager for a certificate: home's is asked, and the Secret follows.
// That of the provider would write to the same Secret.
func getsCertificates(annotation string) bool {
	prefix, _, _ := strings.Cut(annotation, "/")
	return prefix == "cert-manager.io" || strings.HasSuffix(prefix, ".cert-manager.io")
}

// toResource says whether a rule leads to something else than Services.
func toResource(rule *networkingv1.IngressRule) bool {
	if rule.HTTP == nil {
		return false
	}
	for i := range rule.HTTP.Paths {
		if rule.HTTP.Paths[i].Backend.Resource != nil {
			return true
		}
	}
	return false
}

// IngressEqual says whether have needs no write to be want (a result of Ingress).
func IngressEqual(want, have *networkingv1.Ingress) bool {
	return sameMeta(&want.ObjectMeta, &have.ObjectMeta) && apiequality.Semantic.DeepEqual(want.Spec, have.Spec)
}

// IngressReplace says whether the API refuses to update have to want. It takes every change of an Ingress.
func IngressReplace(_, _ *networkingv1.Ingress) bool { return false }

// IngressSecrets are the names of the Secrets with the certificates of an Ingress, each once.
func IngressSecrets(ingress *networkingv1.Ingress) []string {
	seen := map[string]bool{}
	var names []string
	for _, tls := range ingress.Spec.TLS {
		if name := tls.SecretName; name != "" && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}
