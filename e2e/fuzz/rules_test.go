package fuzz

import (
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/spillway-dev/spillway/reflector/translate"
)

const (
	// nodeName is the virtual node of the twins' local pods.
	nodeName = "spillway-west"

	// tokenPath is where home's admission mounts the token of the pod's account.
	tokenPath = "/var/run/secrets/kubernetes.io/serviceaccount"
)

// env returns what pod number i is translated with: every other twin reaches home's API server and gets its tokens, every third
// is answered under the names of home.
func env(i uint64) translate.Env {
	e := translate.Env{Origin: "0a1b2c3d-fuzz", NodeName: nodeName, RemoteNamespace: tenantNamespace}
	if i%2 == 1 {
		e.HomeAPI = netip.MustParseAddrPort("192.0.2.1:6443")
	}
	if i%3 == 1 {
		e.DNS = translate.DNS{Nameservers: []netip.Addr{netip.MustParseAddr(homeNames)}, Domain: "cluster.local"}
	}
	return e
}

// deniedFields reads fields.md: the fields that no twin has.
func deniedFields(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("../../reflector/translate/fields.md")
	if err != nil {
		t.Fatal(err)
	}
	denied := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, "|"); len(cells) >= 5 && strings.TrimSpace(cells[2]) == "dropped" {
			denied[strings.TrimSpace(cells[1])] = true
		}
	}
	if len(denied) < 20 {
		t.Fatalf("fields.md drops %d fields only: has its form changed?", len(denied))
	}
	return denied
}

// broken returns the rules that the twin of local breaks, in words; none is how it must be.
func broken(local, twin *corev1.Pod, denied map[string]bool) []string {
	var words []string
	say := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }

	hasDenied := func(key string, value reflect.Value) bool {
		if denied[key] {
			say("%s is dropped, but the twin has %v", key, value)
		}
		return true
	}
	walkValue(reflect.ValueOf(twin.ObjectMeta), hasDenied)
	walkValue(reflect.ValueOf(twin.Spec), hasDenied)
	if s := twin.Spec; s.ServiceAccountName != "" || s.AutomountServiceAccountToken == nil || *s.AutomountServiceAccountToken {
		say("the twin has an account of the peer: %q", s.ServiceAccountName)
	}
	if len(twin.Spec.EphemeralContainers) > 0 || !reflect.DeepEqual(twin.Status, corev1.PodStatus{}) {
		say("the twin has what cannot be created")
	}
	if twin.Namespace != tenantNamespace {
		say("the twin is in namespace %q", twin.Namespace)
	}
	_, twinSecrets := translate.References(&twin.Spec)
	for _, c := range slices.Concat(twin.Spec.InitContainers, twin.Spec.Containers) {
		for _, m := range c.VolumeMounts {
			if m.MountPath == tokenPath && hasToken(local, m.Name) && !slices.Contains(twinSecrets, translate.TokenSecretName(local.UID)) {
				say("container %s still mounts what was home's token", c.Name)
			}
		}
	}
	return append(words, brokenNames(local, twin)...)
}

// hasToken says whether a volume of the pod holds a token. One that only has the name of such a volume is mounted as if it
// were, too.
func hasToken(pod *corev1.Pod, volume string) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.Name == volume && v.Projected != nil && slices.ContainsFunc(v.Projected.Sources,
			func(s corev1.VolumeProjection) bool { return s.ServiceAccountToken != nil })
	})
}

// brokenNames returns the rules about ConfigMaps, Secrets and namespaces that the twin breaks. It finds their names by how
// they begin, wherever they are: References cannot overlook one that this does not see.
func brokenNames(local, twin *corev1.Pod) []string {
	var words []string
	localMaps, localSecrets := translate.References(&local.Spec)
	twinMaps, twinSecrets := translate.References(&twin.Spec)
	for _, pair := range [][2][]string{{twinMaps, localMaps}, {twinSecrets, localSecrets}} {
		for _, name := range pair[0] {
			if !slices.Contains(pair[1], name) && name != translate.TokenSecretName(local.UID) {
				words = append(words, fmt.Sprintf("the twin needs %s, which the pod does not", name))
			}
		}
	}
	eachText(reflect.ValueOf(withoutHomeSearch(twin)), func(text string) {
		switch {
		case strings.HasPrefix(text, configMapPrefix) && !slices.Contains(twinMaps, text),
			strings.HasPrefix(text, secretPrefix) && !slices.Contains(twinSecrets, text):
			words = append(words, fmt.Sprintf("the twin names %s, which References does not know", text))
		case strings.Contains(text, homeNamespace):
			words = append(words, fmt.Sprintf("the twin's spec names home's namespace: %q", text))
		}
	})
	for key, value := range twin.Annotations {
		if key != translate.AnnotationOriginNamespace && strings.Contains(value, homeNamespace) {
			words = append(words, fmt.Sprintf("annotation %s names home's namespace", key))
		}
	}
	return words
}

// withoutHomeSearch is the twin's spec without the one place where home's namespace belongs: a twin that is answered under
// the names of home searches its own namespace first.
func withoutHomeSearch(twin *corev1.Pod) corev1.PodSpec {
	spec := twin.Spec
	dns := spec.DNSConfig
	if spec.DNSPolicy == corev1.DNSNone && dns != nil && len(dns.Searches) > 0 && dns.Nameservers[0] == homeNames &&
		dns.Searches[0] == homeNamespace+".svc.cluster.local" {
		spec.DNSConfig = dns.DeepCopy()
		spec.DNSConfig.Searches = spec.DNSConfig.Searches[1:]
	}
	return spec
}

// homeNames is the nameserver that answers under the names of home.
const homeNames = "169.254.83.53"

// eachText calls f for every string in v, keys of maps too.
func eachText(v reflect.Value, f func(string)) {
	switch v.Kind() {
	case reflect.String:
		f(v.String())
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			eachText(v.Elem(), f)
		}
	case reflect.Slice:
		for i := range v.Len() {
			eachText(v.Index(i), f)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			eachText(key, f)
			eachText(v.MapIndex(key), f)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			eachText(v.Field(i), f)
		}
	}
}

// TestRules holds the rules against pods as users write them: with the fields too that this version of the API server
// does not keep unless it is told to.
func TestRules(t *testing.T) {
	denied := deniedFields(t)
	o := theOptions(t)
	for i := range o.pods {
		local := newPod(o.seed, i)
		before := local.DeepCopy()
		twin := translate.Twin(local, env(i))
		if !reflect.DeepEqual(before, local) {
			t.Fatalf("pod %d: Twin changed its input", i)
		}
		if words := broken(local, twin, denied); len(words) > 0 {
			t.Fatalf("pod %d: %s", i, strings.Join(words, "\n"))
		}
	}
}
