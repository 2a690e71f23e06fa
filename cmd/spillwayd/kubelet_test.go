package main

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestKubeletOptions(t *testing.T) {
	for name, row := range map[string]struct {
		args []string
		want string // the address, or part of the error
	}{
		"nothing given":             {nil, "invalid IP"},
		"an address":                {[]string{"--kubelet-address=192.0.2.7"}, "192.0.2.7"},
		"IPv6":                      {[]string{"--kubelet-address=2001:db8::7", "--kubelet-approve=false"}, "2001:db8::7"},
		"IPv4 in IPv6":              {[]string{"--kubelet-address=::ffff:192.0.2.7"}, "192.0.2.7"},
		"a certificate":             {[]string{"--kubelet-address=192.0.2.7", "--kubelet-cert-file=a", "--kubelet-key-file=b"}, "192.0.2.7"},
		"a name":                    {[]string{"--kubelet-address=localhost"}, "give an IP address"},
		"a port with the address":   {[]string{"--kubelet-address=192.0.2.7:10250"}, "give an IP address"},
		"every address":             {[]string{"--kubelet-address=0.0.0.0"}, "the one address"},
		"an address with a zone":    {[]string{"--kubelet-address=fe80::1%eth0"}, "the one address"},
		"port 0":                    {[]string{"--kubelet-address=192.0.2.7", "--kubelet-port=0"}, "--kubelet-port 0"},
		"half a certificate":        {[]string{"--kubelet-address=192.0.2.7", "--kubelet-cert-file=a"}, "give both or none"},
		"a certificate for nothing": {[]string{"--kubelet-cert-file=a", "--kubelet-key-file=b"}, "needs --kubelet-address"},
	} {
		t.Run(name, func(t *testing.T) {
			var o kubeletOptions
			f := pflag.NewFlagSet("", pflag.ContinueOnError)
			o.addTo(f)
			if err := f.Parse(row.args); err != nil {
				t.Fatal(err)
			}
			at, err := o.parse()
			got := at.String()
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, row.want) {
				t.Errorf("got %s, want %s", got, row.want)
			}
		})
	}
}

// TestKubelets_None: without an address everything is as if there were no kubelet API.
func TestKubelets_None(t *testing.T) {
	var o kubeletOptions
	k, err := o.start(t.Context(), nil, nil)
	if err != nil || k != nil || k.server() != nil {
		t.Errorf("%v, %v", k, err)
	}
}
