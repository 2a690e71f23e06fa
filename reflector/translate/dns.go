package translate

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Limits of the API on the DNS of a pod.
const (
	mostNameservers   = 3
	mostSearches      = 32
	longestSearchList = 2048 // with a space between two
)

// DNS is what answers twins under the names of home.
type DNS struct {
	// Nameservers of the peer that do, best first. None: twins ask the peer's own DNS.
	Nameservers []netip.Addr
	// Domain is that of the peer's Services, for example cluster.local.
	Domain string
}

// askForHome has a twin whose namespace has another name at the peer ask for the names of home, and see in its resolver's
// configuration what it would see there. A pod on the host's network keeps what it has: nobody could tell by its address
// whose it is. spec is changed in place.
func askForHome(spec *corev1.PodSpec, namespace string, env Env) {
	follows := spec.DNSPolicy == corev1.DNSClusterFirst || spec.DNSPolicy == corev1.DNSClusterFirstWithHostNet || spec.DNSPolicy == ""
	if !follows || spec.HostNetwork || namespace == env.RemoteNamespace || len(env.DNS.Nameservers) == 0 {
		return
	}
	own := spec.DNSConfig
	if own == nil {
		own = &corev1.PodDNSConfig{}
	}
	config := &corev1.PodDNSConfig{}
	for _, a := range env.DNS.Nameservers {
		config.Nameservers = append(config.Nameservers, a.String())
	}
	config.Nameservers = firstOfEach(append(config.Nameservers, own.Nameservers...), mostNameservers)
	services := "svc." + env.DNS.Domain
	searches := append([]string{namespace + "." + services, services, env.DNS.Domain}, own.Searches...)
	config.Searches = fittingSearches(firstOfEach(searches, mostSearches))
	config.Options = dnsOptions(own.Options)
	spec.DNSPolicy, spec.DNSConfig = corev1.DNSNone, config
}

// firstOfEach drops what comes again and what is beyond the first few, as kubelets do.
func firstOfEach(list []string, most int) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) && len(out) < most {
			out = append(out, s)
		}
	}
	return out
}

// fittingSearches leaves as many of the first ones as the API takes.
func fittingSearches(searches []string) []string {
	for len(strings.Join(searches, " ")) > longestSearchList {
		searches = searches[:len(searches)-1]
	}
	return searches
}

// dnsOptions are those that kubelets give a pod of this policy, and the pod's own, which win.
func dnsOptions(own []corev1.PodDNSConfigOption) []corev1.PodDNSConfigOption {
	dots, value := "ndots", "5"
	if slices.ContainsFunc(own, func(o corev1.PodDNSConfigOption) bool { return o.Name == dots }) {
		return own
	}
	return append([]corev1.PodDNSConfigOption{{Name: dots, Value: &value}}, own...)
}
