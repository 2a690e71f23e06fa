package kubelet

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// tokenProtocol is how a browser hands over a bearer token: as one of the protocols of its WebSocket.
const tokenProtocol = "base64url.bearer.authorization.k8s.io."

// execQuery turns the query of a kubelet's /exec into PodExecOptions.
func execQuery(query url.Values, container string) url.Values {
	out := attachQuery(query, container)
	if command := query["command"]; len(command) > 0 {
		out["command"] = command // an empty word is one too
	}
	return out
}

// attachQuery turns the query of a kubelet's /attach into PodAttachOptions.
func attachQuery(query url.Values, container string) url.Values {
	out := url.Values{"container": {container}}
	for there, here := range map[string]string{"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"} {
		if query.Get(here) == "1" {
			out.Set(there, "true")
		}
	}
	return out
}

// portForwardQuery turns the query of a kubelet's /portForward into PodPortForwardOptions. Only WebSocket clients name ports
// here, others do so per stream.
func portForwardQuery(query url.Values, _ string) url.Values {
	out := url.Values{}
	for _, ports := range query["port"] {
		out["ports"] = append(out["ports"], strings.Split(ports, ",")...)
	}
	return out
}

// logQuery turns the query of a kubelet's /containerLogs into PodLogOptions, of which it has the names but for the old "tail".
func logQuery(query url.Values, container string) url.Values {
	out := url.Values{"container": {container}}
	for name, values := range query {
		switch name {
		case "container", "insecureSkipTLSVerifyBackend", "tail": // how the peer talks to its kubelets is not the caller's business
		default:
			out[name] = values
		}
	}
	if tail := query.Get("tail"); tail == "all" {
		out.Del("tailLines")
	} else if tail != "" {
		out.Set("tailLines", tail)
	}
	return out
}

// upgradeHeader is what of a caller's header the peer sees: what the upgrade needs. Whatever says who the caller is, or who he
// wants to be taken for, stays here: at the peer this cluster's tenant asks.
func upgradeHeader(from http.Header) http.Header {
	to := http.Header{"Connection": {"Upgrade"}}
	for _, name := range []string{
		"Upgrade", "X-Stream-Protocol-Version", "Sec-Websocket-Key", "Sec-Websocket-Version", "Sec-Websocket-Extensions",
	} {
		if values := from[name]; len(values) > 0 {
			to[name] = slices.Clone(values)
		}
	}
	var protocols []string
	for _, value := range from["Sec-Websocket-Protocol"] {
		for protocol := range strings.SplitSeq(value, ",") {
			if protocol = strings.TrimSpace(protocol); protocol != "" && !strings.HasPrefix(protocol, tokenProtocol) {
				protocols = append(protocols, protocol)
			}
		}
	}
	if len(protocols) > 0 {
		to.Set("Sec-Websocket-Protocol", strings.Join(protocols, ", "))
	}
	return to
}
