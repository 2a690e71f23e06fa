package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// maxNameLength is the most characters a Peering's name may have; the API server enforces it too.
const maxNameLength = 40

// notInLabels matches everything that may not stand in a DNS label. Compiled per call: it runs twice a command.
const notInLabels = `[^a-z0-9]+`

// sanitise makes a DNS label of at most maxNameLength characters from the name of a kubeconfig context. Of a longer
// one the end is kept (cloud providers put the cluster's own name there) with a hash of the whole. Empty when nothing
// usable is in it.
func sanitise(context string) string {
	label := strings.Trim(regexp.MustCompile(notInLabels).ReplaceAllString(strings.ToLower(context), "-"), "-")
	if len(label) <= maxNameLength {
		return label
	}
	sum := sha256.Sum256([]byte(context))
	hash := hex.EncodeToString(sum[:4])
	tail := label[len(label)-(maxNameLength-len(hash)-1):]
	return strings.Trim(tail, "-") + "-" + hash
}

// checkName refuses what cannot be a Peering's name. flag is the flag it came from.
func checkName(flag, name string) error {
	if name == "" {
		return usagef(fmt.Sprintf("Give one with %s.", flag), "no usable name can be made from the context's name")
	}
	if len(name) > maxNameLength || len(validation.IsDNS1123Label(name)) > 0 {
		return usagef(fmt.Sprintf("Use at most %d lower-case letters, digits and hyphens, with a letter or digit at both ends.", maxNameLength),
			"%s %q cannot be the name of a Peering", flag, name)
	}
	return nil
}

// checkNodeName refuses what cannot be a Node's name here: Spillway asks for a DNS label, as it becomes a label value.
func checkNodeName(name string) error {
	if len(validation.IsDNS1123Subdomain(name)) > 0 || len(name) > validation.DNS1123LabelMaxLength {
		return usagef("Use at most 63 lower-case letters, digits, hyphens and dots.", "--node-name %q cannot be the name of a node", name)
	}
	return nil
}

// checkIngressClass refuses what cannot be the name of an IngressClass, or not the value of a label. Empty is none.
func checkIngressClass(name string) error {
	if name != "" && (len(validation.IsDNS1123Subdomain(name)) > 0 || len(name) > validation.DNS1123LabelMaxLength) {
		return usagef("Use a name that kubectl get ingressclasses shows in the provider, or \"\" for none.", "--ingress-class %q cannot be the name of an IngressClass", name)
	}
	return nil
}

// parsePercent reads 80 or 80%.
func parsePercent(text string) (int32, error) {
	n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(text), "%"), 10, 32)
	if err != nil || n < 1 || n > 100 {
		return 0, usagef("Give a whole number from 1 to 100, for example --share 80 or --share 80%.", "--share %q is not a percentage", text)
	}
	return int32(n), nil
}

// parsePairs reads key=value,key=value. Empty text has no pairs.
func parsePairs(flag, text string) (map[string]string, error) {
	pairs := map[string]string{}
	for _, pair := range strings.Split(text, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		key, value, found := strings.Cut(pair, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !found || len(validation.IsQualifiedName(key)) > 0 {
			return nil, usagef("Write key=value pairs with commas between them.", "%s: %q is not a key=value pair", flag, pair)
		}
		if _, twice := pairs[key]; twice {
			return nil, usagef("Name each key once.", "%s: %q is given twice", flag, key)
		}
		pairs[key] = value
	}
	return pairs, nil
}

// parseLabels reads labels as key=value,key=value.
func parseLabels(flag, text string) (map[string]string, error) {
	labels, err := parsePairs(flag, text)
	if err != nil {
		return nil, err
	}
	for key, value := range labels {
		if len(validation.IsValidLabelValue(value)) > 0 {
			return nil, usagef("Use at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends.",
				"%s: %q is not a valid value for label %s", flag, value, key)
		}
	}
	return labels, nil
}

// parseResources reads amounts of resources as cpu=8,memory=16Gi.
func parseResources(flag, text string) (corev1.ResourceList, error) {
	pairs, err := parsePairs(flag, text)
	if err != nil {
		return nil, err
	}
	list := corev1.ResourceList{}
	for name, value := range pairs {
		amount, err := resource.ParseQuantity(value)
		if err != nil || amount.Sign() < 0 {
			return nil, usagef("Write amounts as Kubernetes does, for example cpu=8,memory=16Gi.", "%s: %q is not an amount of %s", flag, value, name)
		}
		list[corev1.ResourceName(name)] = amount
	}
	return list, nil
}

// parsePodSecurity reads a level of the Pod Security Standards.
func parsePodSecurity(text string) (v1alpha1.PodSecurityLevel, error) {
	level := v1alpha1.PodSecurityLevel(text)
	switch level {
	case v1alpha1.PodSecurityPrivileged, v1alpha1.PodSecurityBaseline, v1alpha1.PodSecurityRestricted:
		return level, nil
	}
	return "", usagef("Use privileged, baseline or restricted.", "--pod-security %q is not a Pod Security level", text)
}

// checkServer refuses what cannot be the address of an API server. where says where it was found.
func checkServer(where, server string) error {
	parsed, err := url.Parse(server)
	if err != nil || parsed.Scheme != "https" || parsed.Host == "" {
		return problemf("Give an address like https://203.0.113.7:6443 with --remote-server.", "%s %q is not an https address", where, server)
	}
	return nil
}

// onlyHere says whether an address means this machine, so that no other can use it.
func onlyHere(server string) bool {
	parsed, err := url.Parse(server)
	if err != nil {
		return false
	}
	host := parsed.Hostname()
	return host == "localhost" || strings.HasPrefix(host, "127.") || host == "::1"
}
