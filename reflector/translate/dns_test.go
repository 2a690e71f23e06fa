package translate

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func namesEnv() Env {
	env := testEnv()
	env.DNS = DNS{Nameservers: []netip.Addr{netip.MustParseAddr("169.254.83.53")}, Domain: "cluster.local"}
	return env
}

func TestTwin_AsksForNamesOfHome(t *testing.T) {
	usual := func() *corev1.PodDNSConfig {
		return &corev1.PodDNSConfig{
			Nameservers: []string{"169.254.83.53"},
			Searches:    []string{"shop.svc.cluster.local", "svc.cluster.local", "cluster.local"},
			Options:     []corev1.PodDNSConfigOption{{Name: "ndots", Value: text("5")}},
		}
	}
	with := func(edit func(*corev1.PodDNSConfig)) *corev1.PodDNSConfig {
		config := usual()
		edit(config)
		return config
	}
	own := &corev1.PodDNSConfig{Nameservers: []string{"192.0.2.1"}, Searches: []string{"example.com"}}
	for name, row := range map[string]struct {
		spec   corev1.PodSpec
		env    func(*Env)
		policy corev1.DNSPolicy
		want   *corev1.PodDNSConfig
	}{
		"the usual policy": {spec: corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst}, policy: corev1.DNSNone, want: usual()},
		"no policy":        {policy: corev1.DNSNone, want: usual()},
		"for the host's network, without it": {
			spec: corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirstWithHostNet}, policy: corev1.DNSNone, want: usual(),
		},
		"on the host's network": {
			spec:   corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirstWithHostNet, HostNetwork: true},
			policy: corev1.DNSClusterFirstWithHostNet,
		},
		"the node's policy": {spec: corev1.PodSpec{DNSPolicy: corev1.DNSDefault}, policy: corev1.DNSDefault},
		"a policy of its own": {
			spec: corev1.PodSpec{DNSPolicy: corev1.DNSNone, DNSConfig: own}, policy: corev1.DNSNone, want: own,
		},
		"the same name at the peer": {
			spec: corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst}, env: func(e *Env) { e.RemoteNamespace = "shop" }, policy: corev1.DNSClusterFirst,
		},
		"a peer that does not answer": {
			spec: corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst}, env: func(e *Env) { e.DNS = DNS{} }, policy: corev1.DNSClusterFirst,
		},
		"additions of the pod": {
			spec: corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, DNSConfig: &corev1.PodDNSConfig{
				Nameservers: []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, Searches: []string{"example.com", "svc.cluster.local"},
				Options: []corev1.PodDNSConfigOption{{Name: "edns0"}},
			}},
			policy: corev1.DNSNone,
			want: with(func(c *corev1.PodDNSConfig) {
				c.Nameservers = append(c.Nameservers, "192.0.2.1", "192.0.2.2")
				c.Searches = append(c.Searches, "example.com")
				c.Options = append(c.Options, corev1.PodDNSConfigOption{Name: "edns0"})
			}),
		},
		"an option of the pod wins": {
			spec: corev1.PodSpec{DNSConfig: &corev1.PodDNSConfig{
				Options: []corev1.PodDNSConfigOption{{Name: "timeout", Value: text("1")}, {Name: "ndots", Value: text("1")}},
			}},
			policy: corev1.DNSNone,
			want: with(func(c *corev1.PodDNSConfig) {
				c.Options = []corev1.PodDNSConfigOption{{Name: "timeout", Value: text("1")}, {Name: "ndots", Value: text("1")}}
			}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			env := namesEnv()
			if row.env != nil {
				row.env(&env)
			}
			local := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Spec: row.spec}
			before := local.DeepCopy()
			twin := Twin(local, env)
			if diff := gocmp.Diff(row.want, twin.Spec.DNSConfig); diff != "" || twin.Spec.DNSPolicy != row.policy {
				t.Errorf("policy %s (-want +got):\n%s", twin.Spec.DNSPolicy, diff)
			}
			if !reflect.DeepEqual(before, local) {
				t.Error("the local pod was changed")
			}
			if patch, _, err := Drift(local, twin, env); patch != nil || err != nil {
				t.Errorf("a fresh twin drifts: %s, %v", patch, err)
			}
		})
	}
}

// TestTwin_DNSFits: what the API would refuse is cut off the end.
func TestTwin_DNSFits(t *testing.T) {
	many := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}, Spec: corev1.PodSpec{DNSConfig: &corev1.PodDNSConfig{}}}
	for i := range mostSearches {
		many.Spec.DNSConfig.Searches = append(many.Spec.DNSConfig.Searches, fmt.Sprintf("s%d.example.com", i))
	}
	if got := Twin(many, namesEnv()).Spec.DNSConfig.Searches; len(got) != mostSearches || got[0] != "shop.svc.cluster.local" {
		t.Errorf("%d searches: %q", len(got), got)
	}
	long := many.DeepCopy()
	for i := range long.Spec.DNSConfig.Searches {
		long.Spec.DNSConfig.Searches[i] = strings.Repeat("a", 60) + fmt.Sprintf("%02d", i)
	}
	if got := strings.Join(Twin(long, namesEnv()).Spec.DNSConfig.Searches, " "); len(got) > longestSearchList {
		t.Errorf("%d characters", len(got))
	}
}

func text(s string) *string { return &s }
