package translate

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// tokenSecretPrefix begins the names of the Secrets that hold the tokens of one pod each.
	tokenSecretPrefix = "spillway-token-"

	// AnnotationRenewAt is on such a Secret: when its tokens are to be replaced, RFC 3339.
	AnnotationRenewAt = "spillway.dev/renew-at"

	// caKey is the key of home's certificate authority in such a Secret.
	caKey = "ca.crt"

	// apiHost is a name that the certificate of every API server has. A twin finds home's under it.
	apiHost = "kubernetes.default.svc"

	// leastTokenSeconds is the shortest life that the API gives a token, and usualTokenSeconds the longest that it gives
	// without making it a year (which it does for the 3607 seconds of the usual volume).
	leastTokenSeconds, usualTokenSeconds = 600, 3600
)

// Token is one token of its ServiceAccount that a pod mounts.
type Token struct {
	Key      string // in the pod's Secret
	Audience string // empty: the API server
	Seconds  int64  // how long it is to be good
}

// Tokens lists what the volumes of a local pod ask for, in their order.
func Tokens(spec *corev1.PodSpec) []Token {
	var out []Token
	for i := range spec.Volumes {
		if spec.Volumes[i].Projected == nil {
			continue
		}
		for _, source := range spec.Volumes[i].Projected.Sources {
			if t := source.ServiceAccountToken; t != nil {
				seconds := int64(usualTokenSeconds)
				if t.ExpirationSeconds != nil {
					seconds = min(max(*t.ExpirationSeconds, leastTokenSeconds), usualTokenSeconds)
				}
				out = append(out, Token{Key: "token-" + strconv.Itoa(len(out)), Audience: t.Audience, Seconds: seconds})
			}
		}
	}
	return out
}

// TokensFollow says whether tokens of home reach the twins of env's node: only where twins reach home's API server.
func TokensFollow(env Env) bool { return env.HomeAPI.IsValid() }

// TokenSecretName is the name, in the tenant namespace, of the Secret that holds the tokens of the local pod with this UID.
func TokenSecretName(uid types.UID) string { return tokenSecretPrefix + string(uid) }

// IsTokenSecret tells such a Secret, which has no counterpart at home, from the twin of a Secret.
func IsTokenSecret(name string) bool { return strings.HasPrefix(name, tokenSecretPrefix) }

// TokenSecret returns the Secret with the tokens of local, by Token.Key, and home's certificate authority, PEM.
func TokenSecret(local *corev1.Pod, env Env, tokens map[string]string, authority string, renewAt time.Time) *corev1.Secret {
	meta := twinMeta(&metav1.ObjectMeta{Name: TokenSecretName(local.UID), Namespace: local.Namespace, UID: local.UID}, env)
	meta.Annotations[AnnotationRenewAt] = renewAt.UTC().Format(time.RFC3339)
	data := map[string][]byte{caKey: []byte(authority)}
	for key, token := range tokens {
		data[key] = []byte(token)
	}
	return &corev1.Secret{ObjectMeta: meta, Type: corev1.SecretTypeOpaque, Data: data}
}

// RenewAt is when the tokens of a TokenSecret are to be replaced; the zero time when it does not say.
func RenewAt(s *corev1.Secret) time.Time {
	at, err := time.Parse(time.RFC3339, s.Annotations[AnnotationRenewAt])
	if err != nil {
		return time.Time{}
	}
	return at
}

// deliverTokens has the volumes of a twin take tokens and home's certificate authority from the pod's Secret, and its containers
// find home's API server. spec is changed in place.
func deliverTokens(spec *corev1.PodSpec, uid types.UID, api netip.AddrPort) {
	count := 0
	for i := range spec.Volumes {
		projected := spec.Volumes[i].Projected
		if projected == nil || !slices.ContainsFunc(projected.Sources, asksForToken) {
			continue
		}
		for j := range projected.Sources {
			source := &projected.Sources[j]
			switch {
			case source.ServiceAccountToken != nil:
				*source = fromTokenSecret(uid, fmt.Sprintf("token-%d", count), source.ServiceAccountToken.Path)
				count++
			case source.ConfigMap != nil && source.ConfigMap.Name == rootCA:
				path := caKey
				if len(source.ConfigMap.Items) > 0 {
					path = source.ConfigMap.Items[0].Path
				}
				*source = fromTokenSecret(uid, caKey, path)
			}
		}
		projected.Sources = lastOfEachPath(projected.Sources)
	}
	if count == 0 || spec.HostNetwork {
		return // a host's own file of names is not ours to change
	}
	spec.HostAliases = append(spec.HostAliases, corev1.HostAlias{IP: api.Addr().String(), Hostnames: []string{apiHost}})
	eachContainer(spec, func(c *corev1.Container) {
		addEnv(c, "KUBERNETES_SERVICE_HOST", apiHost)
		addEnv(c, "KUBERNETES_SERVICE_PORT", strconv.Itoa(int(api.Port())))
	})
}

func asksForToken(s corev1.VolumeProjection) bool { return s.ServiceAccountToken != nil }

func fromTokenSecret(uid types.UID, key, path string) corev1.VolumeProjection {
	return corev1.VolumeProjection{Secret: &corev1.SecretProjection{
		LocalObjectReference: corev1.LocalObjectReference{Name: TokenSecretName(uid)}, Items: []corev1.KeyToPath{{Key: key, Path: path}},
	}}
}

// lastOfEachPath leaves of files with the same path the last, which is the one that a kubelet lets a container see. The API
// takes a token on the path of another file, but no Secret. sources is changed in place.
func lastOfEachPath(sources []corev1.VolumeProjection) []corev1.VolumeProjection {
	seen := map[string]bool{}
	again := func(path string) bool {
		was := seen[path]
		seen[path] = true
		return was
	}
	for i := len(sources) - 1; i >= 0; i-- {
		s, hidden := &sources[i], false
		switch {
		case s.Secret != nil && len(s.Secret.Items) > 0:
			s.Secret.Items = slices.DeleteFunc(s.Secret.Items, func(k corev1.KeyToPath) bool { return again(k.Path) })
			hidden = len(s.Secret.Items) == 0 // which would mean all keys
		case s.ConfigMap != nil && len(s.ConfigMap.Items) > 0:
			s.ConfigMap.Items = slices.DeleteFunc(s.ConfigMap.Items, func(k corev1.KeyToPath) bool { return again(k.Path) })
			hidden = len(s.ConfigMap.Items) == 0
		case s.DownwardAPI != nil:
			s.DownwardAPI.Items = slices.DeleteFunc(s.DownwardAPI.Items, func(f corev1.DownwardAPIVolumeFile) bool { return again(f.Path) })
		case s.ClusterTrustBundle != nil:
			hidden = again(s.ClusterTrustBundle.Path)
		}
		if hidden {
			*s = corev1.VolumeProjection{}
		}
	}
	return slices.DeleteFunc(sources, func(s corev1.VolumeProjection) bool { return s == corev1.VolumeProjection{} })
}

// addEnv sets a variable that the user has not set.
func addEnv(c *corev1.Container, name, value string) {
	if !slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == name }) {
		c.Env = append(c.Env, corev1.EnvVar{Name: name, Value: value})
	}
}
