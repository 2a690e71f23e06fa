package scenario

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	api "k8s.io/client-go/tools/clientcmd/api"

	"github.com/spillway-dev/spillway/e2e/lab"
)

// badInput is a command line that must be refused.
type badInput struct {
	args []string
	code int
	says []string // in stderr: what is wrong, and what to do
}

// TestBadInput: a sentence says what is wrong, another what to do, and nothing changes in either cluster.
func TestBadInput(t *testing.T) {
	s := begin(t)
	file := s.badContexts()
	third := s.thirdCluster()
	with := func(args ...string) []string { return append(args, "--kubeconfig", file) }
	rows := map[string]badInput{
		"unknown context": {with("peer", "--context", "nowhere", "--remote-context", west), 1,
			[]string{`no context "nowhere"`, "Known contexts:", "Nothing was changed."}},
		"unreachable server": {with("peer", "--context", east, "--remote-context", "unreachable"), 1,
			[]string{"does not answer", "Check that the cluster is running", "Nothing was changed."}},
		"expired token": {with("peer", "--context", east, "--remote-context", "expired"), 1,
			[]string{"does not accept your credential", "Log in again", "Nothing was changed."}},
		"expired token at home": {with("unpeer", "--context", "expired-home", west), 1,
			[]string{"does not accept your credential", "Log in again", "Nothing was changed."}},
		"a cluster with itself": {with("peer", "--context", east, "--remote-context", east+"-direct"), 1,
			[]string{"cannot be peered with itself", "two different clusters", "Nothing was changed."}},
		"a second peering to the same cluster": {with("peer", "--context", east, "--remote-context", west, "--name", "second"), 1,
			[]string{"already peered with that cluster", "--name " + west, "Nothing was changed."}},
		"un-peering what is not peered": {with("unpeer", "--context", east, "nobody"), 1,
			[]string{`no Peering "nobody"`, "There are: " + west, "Nothing was changed."}},
		"too few rights at the provider": {with("peer", "--context", east, "--remote-context", "viewer"), 1,
			[]string{"too few rights in the provider", "create peerings.spillway.dev", "Ask an administrator", "Nothing was changed."}},
		"too few rights to un-peer": {with("unpeer", "--context", "viewer-home", west), 1,
			[]string{"delete peerings.spillway.dev", "Ask an administrator", "Nothing was changed."}},
		"CRDs not installed": {with("peer", "--context", east, "--remote-kubeconfig", third, "--remote-context", "bare"), 1,
			[]string{"CRDs are not installed in the provider", "spillway install --context", "Nothing was changed."}},
		"CRDs not installed at home": {[]string{"unpeer", "--kubeconfig", third, "--context", "bare"}, 1,
			[]string{"CRDs are not installed", "spillway install --context", "Nothing was changed."}},
		"not a percentage": {with("peer", "--context", east, "--remote-context", west, "--share", "120"), 2,
			[]string{"is not a percentage"}},
		"unknown flag": {with("peer", "--context", east, "--remote-contxt", west), 2, []string{"unknown flag", "--help"}},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) { s.at(t).mustRefuse(row) })
	}
}

// mustRefuse runs a bad command line and compares both clusters before and after.
func (s *scenario) mustRefuse(row badInput) {
	before := map[*side]inventory{}
	var counts []*writes
	for _, side := range []*side{s.consumer, s.provider} {
		var err error
		before[side], err = side.takeInventory(s.ctx)
		s.check(err)
		counts = append(counts, s.countWrites(side, "spillway"))
	}
	r := s.spillway(s.ctx, row.args...)
	if r.code != row.code {
		s.Errorf("exit code %d, want %d", r.code, row.code)
	}
	for _, part := range row.says {
		if !strings.Contains(r.stderr, part) {
			s.Errorf("stderr does not say %q", part)
		}
	}
	for _, line := range []string{"panic", "goroutine ", "%!"} {
		if strings.Contains(r.stderr, line) {
			s.Errorf("stderr has %q", line)
		}
	}
	for _, w := range counts {
		got, err := w.read(s.ctx)
		s.check(err)
		if len(got) > 0 {
			s.Errorf("it wrote to cluster %s: %v", w.side.Name(), got)
		}
		s.check(w.side.unlike(s.ctx, before[w.side]))
	}
	if s.Failed() {
		s.Logf("spillway %s: %s", strings.Join(row.args, " "), r)
	}
}

// badContexts writes a kubeconfig with the lab's contexts and some that do not work.
func (s *scenario) badContexts() string {
	s.Helper()
	config, err := clientcmd.LoadFromFile(s.lab.Kubeconfig())
	s.check(err)
	closed := config.Clusters[west].DeepCopy()
	closed.Server = "https://127.0.0.1:1"
	config.Clusters["unreachable"] = closed
	add := func(name, cluster, token string) {
		config.AuthInfos[name] = &api.AuthInfo{Token: token}
		config.Contexts[name] = &api.Context{Cluster: cluster, AuthInfo: name}
	}
	config.Contexts["unreachable"] = &api.Context{Cluster: "unreachable", AuthInfo: west}
	add("expired", west, s.expiredToken(s.provider))
	add("expired-home", east, s.expiredToken(s.consumer))
	add("viewer", west, s.viewerToken(s.provider))
	add("viewer-home", east, s.viewerToken(s.consumer))
	path := filepath.Join(s.TempDir(), "kubeconfig")
	s.check(clientcmd.WriteToFile(*config, path))
	return path
}

// expiredToken is a token that the cluster itself would have given out an hour ago for ten minutes.
func (s *scenario) expiredToken(on *side) string {
	s.Helper()
	text, err := os.ReadFile(filepath.Join(s.lab.Dir(), "run", on.Name(), "service-account.key"))
	s.check(err)
	block, _ := pem.Decode(text)
	key, err := x509.ParseECPrivateKey(block.Bytes)
	s.check(err)
	valid := s.token(on, "default")
	parts := strings.Split(valid, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	s.check(err)
	claims := map[string]any{}
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.UseNumber()
	s.check(decoder.Decode(&claims))
	claims["iat"], claims["nbf"] = time.Now().Add(-time.Hour).Unix(), time.Now().Add(-time.Hour).Unix()
	claims["exp"] = time.Now().Add(-50 * time.Minute).Unix()
	payload, err = json.Marshal(claims)
	s.check(err)
	signed := parts[0] + "." + base64.RawURLEncoding.EncodeToString(payload)
	sum := sha256.Sum256([]byte(signed))
	r, v, err := ecdsa.Sign(rand.Reader, key, sum[:])
	s.check(err)
	signature := append(r.FillBytes(make([]byte, 32)), v.FillBytes(make([]byte, 32))...)
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// token asks for a token of a ServiceAccount in namespace default.
func (s *scenario) token(on *side, account string) string {
	s.Helper()
	request := &authenticationv1.TokenRequest{}
	answer, err := on.kube.CoreV1().ServiceAccounts(metav1.NamespaceDefault).CreateToken(s.ctx, account, request, metav1.CreateOptions{})
	s.check(err)
	return answer.Status.Token
}

// viewerToken is that of somebody who may read everything but Secrets, and the Peerings, and write nothing.
func (s *scenario) viewerToken(on *side) string {
	s.Helper()
	name := "viewer"
	accounts, rbac := on.kube.CoreV1().ServiceAccounts(metav1.NamespaceDefault), on.kube.RbacV1()
	_, err := accounts.Create(s.ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	s.check(err)
	_, err = rbac.ClusterRoles().Create(s.ctx, &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{"", "apps", "coordination.k8s.io"}, Resources: []string{"namespaces", "nodes", "pods", "leases"}, Verbs: []string{"get", "list", "watch"}},
			{APIGroups: []string{"spillway.dev"}, Resources: []string{"peerings"}, Verbs: []string{"get", "list", "watch"}},
		},
	}, metav1.CreateOptions{})
	s.check(err)
	_, err = rbac.ClusterRoleBindings().Create(s.ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: metav1.NamespaceDefault, Name: name}},
	}, metav1.CreateOptions{})
	s.check(err)
	s.Cleanup(func() {
		s.check(rbac.ClusterRoleBindings().Delete(s.ctx, name, metav1.DeleteOptions{}))
		s.check(rbac.ClusterRoles().Delete(s.ctx, name, metav1.DeleteOptions{}))
		s.check(accounts.Delete(s.ctx, name, metav1.DeleteOptions{}))
	})
	token := s.token(on, name)
	client, err := kubernetes.NewForConfig(on.restConfigAs(token))
	s.check(err)
	s.eventually(soon, "the viewer has the rights", func(ctx context.Context) error {
		_, err := client.CoreV1().Nodes().List(ctx, listOptions())
		return err
	})
	return token
}

// thirdCluster starts a cluster without Spillway, for this test only, and returns a kubeconfig with context bare.
func (s *scenario) thirdCluster() string {
	s.Helper()
	l, err := lab.Up(s.ctx, lab.Options{Clusters: []lab.ClusterOptions{{Name: "bare"}}, Progress: os.Stderr})
	s.check(err)
	s.Cleanup(func() {
		if err := l.Down(s.ctx); err != nil {
			s.Error(err)
		}
	})
	return l.Kubeconfig()
}
