package charts

import (
	"encoding/json"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestSchema_RefusesWithThePath: who mistypes a value is told which.
func TestSchema_RefusesWithThePath(t *testing.T) {
	for text, want := range map[string]string{
		"contoller: {}":                                                "additional properties 'contoller' not allowed",
		"image: {name: x}":                                             "at '/image': additional properties 'name' not allowed",
		"image: {digest: sha256:abc}":                                  "at '/image/digest'",
		"image: {pullPolicy: Sometimes}":                               "at '/image/pullPolicy'",
		"image: {tag: 1.2}":                                            "at '/image/tag'",
		"imagePullSecrets: [registry]":                                 "at '/imagePullSecrets/0'",
		"imagePullSecrets: registry":                                   "at '/imagePullSecrets'",
		"commonLabels: {team: a b}":                                    "at '/commonLabels/team'",
		"logLevel: loud":                                               "at '/logLevel'",
		"clusterDomain: Cluster.Local":                                 "at '/clusterDomain'",
		"crds: {install: yes please}":                                  "at '/crds/install'",
		"crds: true":                                                   "at '/crds'",
		"priorityClasses: {value: 2000000000}":                         "at '/priorityClasses/value'",
		"network: {podRanges: 10.0.0.0/16}":                            "at '/network/podRanges'",
		"network: {podRanges: [10.0.0.0]}":                             "at '/network/podRanges/0'",
		"network: {serviceRanges: [10.0.0.0/33]}":                      "at '/network/serviceRanges/0'",
		"network: {aliasPools: ['fd00::/8']}":                          "at '/network/aliasPools/0'",
		"network: {gateways: 9}":                                       "at '/network/gateways'",
		"network: {port: 0}":                                           "at '/network/port'",
		"network: {dns: {upstream: [dns.internal]}}":                   "at '/network/dns/upstream/0'",
		"controller: {replica: 2}":                                     "at '/controller': additional properties 'replica' not allowed",
		"controller: {replicas: -1}":                                   "at '/controller/replicas'",
		"controller: {replicas: two}":                                  "at '/controller/replicas'",
		"controller: {kubelet: {port: 70000}}":                         "at '/controller/kubelet/port'",
		"controller: {usage: {interval: 10}}":                          "at '/controller/usage/interval'",
		"controller: {resources: {limits: {memory: 1 GB}}}":            "at '/controller/resources/limits/memory'",
		"controller: {resources: {limit: {}}}":                         "at '/controller/resources': additional properties 'limit' not allowed",
		"controller: {tolerations: [{operator: Always}]}":              "at '/controller/tolerations/0/operator'",
		"controller: {nodeExpressions: [{key: a}]}":                    "at '/controller/nodeExpressions/0'",
		"controller: {affinity: {nodeAffinity: {}}}":                   "at '/controller/affinity': additional properties 'nodeAffinity' not allowed",
		"controller: {extraArgs: [debug]}":                             "at '/controller/extraArgs/0'",
		"controller: {extraEnv: [{value: x}]}":                         "at '/controller/extraEnv/0'",
		"controller: {podAnnotations: {scrape: true}}":                 "at '/controller/podAnnotations/scrape'",
		"node: {wireguard: kernel}":                                    "at '/node/wireguard'",
		"node: {stateDir: var/lib}":                                    "at '/node/stateDir'",
		"node: {stateDir: /}":                                          "at '/node/stateDir'",
		"node: {clean: 1}":                                             "at '/node/clean'",
		"node: {maxUnavailable: 0}":                                    "at '/node/maxUnavailable'",
		"node: {maxUnavailable: 10 percent}":                           "at '/node/maxUnavailable'",
		"node: {privileged: true}":                                     "at '/node': additional properties 'privileged' not allowed",
		"networkPolicy: {webhookFrom: [{cidr: 10.0.0.0/8}]}":           "at '/networkPolicy/webhookFrom/0'",
		"networkPolicy: {egress: {ports: []}}":                         "at '/networkPolicy/egress/ports'",
		"networkPolicy: {egress: {cidrs: [203.0.113.7]}}":              "at '/networkPolicy/egress/cidrs/0'",
		"tracing: {endpoint: collector}":                               "at '/tracing/endpoint'",
		"tracing: {protocol: zipkin}":                                  "at '/tracing/protocol'",
		"metrics: {enabled: true}":                                     "at '/metrics': additional properties 'enabled' not allowed",
		"metrics: {serviceMonitor: {interval: often}}":                 "at '/metrics/serviceMonitor/interval'",
		"metrics: {dashboard: {labels: {grafana: 1}}}":                 "at '/metrics/dashboard/labels/grafana'",
		"controller: {kubelet: {lastPort: 10349}}":                     "controller.kubelet.lastPort 10349 is below controller.kubelet.port 10350",
		"node: {podLabels: {app.kubernetes.io/component: controller}}": "at '/node/podLabels/app.kubernetes.io~1component'",
		"commonLabels: {a b: c}":                                       "at '/commonLabels': additional properties 'a b' not allowed",
		"tracing: {sampleRatio: 10}":                                   "at '/tracing/sampleRatio'",
	} {
		t.Run(text, func(t *testing.T) {
			values := map[string]any{}
			if err := yaml.Unmarshal([]byte(text), &values); err != nil {
				t.Fatal(err)
			}
			if _, err := Render(values, RenderOptions{}); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q", err, want)
			}
		})
	}
}

// TestSchema_KnowsEachValueAndNoOther: what the schema lets pass has a default, and the other way round.
func TestSchema_KnowsEachValueAndNoOther(t *testing.T) {
	text, err := fs.ReadFile(Spillway(), "values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var root schema
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	delete(root.Properties, "global") // for charts around this one
	for _, complaint := range root.compare("", valuesOf(t, "values.yaml")) {
		t.Error(complaint)
	}
}

type schema struct {
	Properties           map[string]schema `json:"properties"`
	AdditionalProperties any               `json:"additionalProperties"`
}

func (s schema) compare(path string, values map[string]any) (complaints []string) {
	if s.AdditionalProperties != false {
		complaints = append(complaints, "the schema lets anything pass at /"+path)
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		child, known := s.Properties[name]
		if !known {
			complaints = append(complaints, "values.yaml has "+path+name+", the schema does not")
			continue
		}
		if fields, ok := values[name].(map[string]any); ok && len(child.Properties) > 0 && len(fields) > 0 && name != "resources" {
			complaints = append(complaints, child.compare(path+name+".", fields)...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		if _, known := values[name]; !known {
			complaints = append(complaints, "the schema has "+path+name+", values.yaml does not")
		}
	}
	return complaints
}
