package kubelet

import (
	"crypto/tls"
	"io"
	"net/http"
	"testing"

	"k8s.io/client-go/rest"
)

// Most of a new connection's work is its TLS handshake; a session is resumed by whatever stream comes next.
func TestPeer_SessionsAreResumed(t *testing.T) {
	fake := newFakePeer(t)
	fake.log = func(http.ResponseWriter, *http.Request) {}
	p, err := newPeer(fake.config(), answerTimeout)
	if err != nil {
		t.Fatal(err)
	}
	location := p.location("west-shop", "web", "log", nil)
	response, err := (&http.Client{Transport: p.logs}).Get(location.String())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	conn, err := p.dialUpgrade(t.Context(), "tcp", location.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if state := conn.(*tls.Conn).ConnectionState(); !state.DidResume || state.NegotiatedProtocol == "h2" {
		t.Errorf("resumed %v, protocol %q", state.DidResume, state.NegotiatedProtocol)
	}
}

func TestPeer_Location(t *testing.T) {
	for host, want := range map[string]string{
		"https://west.example":             "http://west.example:443/api/v1/namespaces/n/pods/p/exec?",
		"https://west.example:6443/":       "http://west.example:6443/api/v1/namespaces/n/pods/p/exec?",
		"https://west.example/clusters/a/": "http://west.example:443/clusters/a/api/v1/namespaces/n/pods/p/exec?",
		"https://[2001:db8::1]":            "http://[2001:db8::1]:443/api/v1/namespaces/n/pods/p/exec?",
		"http://west.example":              "http://west.example:80/api/v1/namespaces/n/pods/p/exec?",
		"west.example:8080":                "http://west.example:8080/api/v1/namespaces/n/pods/p/exec?",
	} {
		p, err := newPeer(&rest.Config{Host: host}, answerTimeout)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.location("n", "p", "exec", nil).String() + "?"; got != want {
			t.Errorf("%s: %s, want %s", host, got, want)
		}
	}
}

// A config that names no CA is verified by those of the machine, not by nothing.
func TestPeer_IsAlwaysVerified(t *testing.T) {
	p, err := newPeer(&rest.Config{Host: "https://west.example"}, answerTimeout)
	if err != nil {
		t.Fatal(err)
	}
	if p.tls == nil || p.tls.InsecureSkipVerify || p.tls.ServerName != "west.example" {
		t.Errorf("TLS config %v", p.tls)
	}
}
