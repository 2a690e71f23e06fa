package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	// placeHome is how a user, and status.to, call this cluster.
	placeHome = "home"

	// maxTargets and maxSteps are what a Migration may have; the API server enforces both.
	maxTargets, maxSteps = 64, 20

	// howToTarget is said wherever a target is wrong.
	howToTarget = "Write it like deployment/web, statefulset/queue or cronjob/report; or use --all or -l SELECTOR."
)

// parseChoice reads which workloads are meant: targets, a selector, or all. Just one of the three.
func parseChoice(targets []string, selector string, all bool) (v1alpha1.WorkloadChoice, error) {
	given := 0
	for _, is := range []bool{len(targets) > 0, selector != "", all} {
		if is {
			given++
		}
	}
	switch {
	case given == 0:
		return v1alpha1.WorkloadChoice{}, usagef(howToTarget, "it is not said what to move")
	case given > 1:
		return v1alpha1.WorkloadChoice{}, usagef("Give only one of them.", "targets, --selector and --all exclude each other")
	case all:
		return v1alpha1.WorkloadChoice{All: true}, nil
	case selector != "":
		parsed, err := metav1.ParseToLabelSelector(selector)
		if err == nil {
			_, err = labels.Parse(selector)
		}
		if err != nil {
			return v1alpha1.WorkloadChoice{}, usagef("Write it like kubectl does: -l tier=front,app!=db", "--selector %q cannot be read: %s", selector, err)
		}
		return v1alpha1.WorkloadChoice{Selector: parsed}, nil
	case len(targets) > maxTargets:
		return v1alpha1.WorkloadChoice{}, usagef("Use -l SELECTOR or --all.", "%d targets are more than the %d that one Migration names", len(targets), maxTargets)
	}
	var names []v1alpha1.WorkloadName
	for _, target := range targets {
		name, err := parseTarget(target)
		if err != nil {
			return v1alpha1.WorkloadChoice{}, err
		}
		if slices.Contains(names, name) {
			return v1alpha1.WorkloadChoice{}, usagef("Name each once.", "%s is given twice", words(name))
		}
		names = append(names, name)
	}
	return v1alpha1.WorkloadChoice{Names: names}, nil
}

// parseTarget reads KIND/NAME.
func parseTarget(text string) (v1alpha1.WorkloadName, error) {
	kind, name, found := strings.Cut(text, "/")
	if !found || len(validation.IsDNS1123Subdomain(name)) > 0 {
		return v1alpha1.WorkloadName{}, usagef(howToTarget, "%q does not name a workload", text)
	}
	bare, _, _ := strings.Cut(strings.ToLower(kind), ".") // deployments.apps
	switch bare {
	case "deployment", "deployments", "deploy":
		return v1alpha1.WorkloadName{Kind: v1alpha1.WorkloadDeployment, Name: name}, nil
	case "statefulset", "statefulsets", "sts":
		return v1alpha1.WorkloadName{Kind: v1alpha1.WorkloadStatefulSet, Name: name}, nil
	case "cronjob", "cronjobs", "cj":
		return v1alpha1.WorkloadName{Kind: v1alpha1.WorkloadCronJob, Name: name}, nil
	case "daemonset", "daemonsets", "ds":
		return v1alpha1.WorkloadName{}, usagef("Its pods belong to the nodes they are on.", "%q cannot be moved", text)
	case "job", "jobs", "pod", "pods", "po", "replicaset", "replicasets", "rs":
		return v1alpha1.WorkloadName{}, usagef("Name the Deployment, StatefulSet or CronJob that makes it; what nothing makes anew ends where it is.", "%q cannot be moved", text)
	}
	return v1alpha1.WorkloadName{}, usagef(howToTarget, "there is no kind %q of workloads that can be moved", kind)
}

// words name a workload for people, as users write it.
func words(w v1alpha1.WorkloadName) string { return strings.ToLower(string(w.Kind)) + "/" + w.Name }

// parseDestination reads PEER, peer/PEER or home.
func parseDestination(text string) (destination, error) {
	peer, isPeer := strings.CutPrefix(text, "peer/")
	switch {
	case text == "":
		return destination{}, usagef("Give the name of a peer, or home, with --to.", "it is not said where to move to")
	case text == placeHome:
		return destination{text: text}, nil
	case len(validation.IsDNS1123Label(peer)) > 0 || len(peer) > maxNameLength:
		return destination{}, usagef("Give the name of a peer as spillway status shows it, or home.", "--to %q cannot be the name of a peer", text)
	case isPeer:
		return destination{peer: peer, text: text}, nil
	}
	return destination{peer: text, text: text}, nil
}

// parseSteps reads 10,50,100 or 10%,50%,100%.
func parseSteps(text string) ([]int32, error) {
	const how = "They rise to 100, for example --steps 10,50,100."
	var steps []int32
	for _, part := range strings.Split(text, ",") {
		n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(part), "%"), 10, 32)
		switch {
		case err != nil || n < 1 || n > 100:
			return nil, usagef(how, "--steps %s: %q is not a percentage from 1 to 100", text, strings.TrimSpace(part))
		case len(steps) > 0 && int32(n) <= steps[len(steps)-1]:
			return nil, usagef(how, "--steps %s: %d does not come after %d", text, n, steps[len(steps)-1])
		}
		steps = append(steps, int32(n))
	}
	switch {
	case steps[len(steps)-1] != 100:
		return nil, usagef(how, "--steps %s ends at %d", text, steps[len(steps)-1])
	case len(steps) > maxSteps:
		return nil, usagef(how, "%d steps are more than the %d that a Migration may have", len(steps), maxSteps)
	}
	return steps, nil
}

// checkNamespace refuses what cannot be the name of a namespace; empty is that of the context.
func checkNamespace(name string) error {
	if name != "" && len(validation.IsDNS1123Label(name)) > 0 {
		return usagef("Use lower-case letters, digits and hyphens.", "%q cannot be the name of a namespace", name)
	}
	return nil
}

// checkMigrationName refuses what cannot be the name of a Migration; empty is one that is made up.
func checkMigrationName(name string) error {
	if name != "" && len(validation.IsDNS1123Subdomain(name)) > 0 {
		return usagef("Use lower-case letters, digits, hyphens and dots, with a letter or digit at both ends.", "%q cannot be the name of a Migration", name)
	}
	return nil
}

// gateFlags say how it is moved and what has to hold after each step.
type gateFlags struct {
	once          bool // no steps: everything at once
	steps         string
	soak          time.Duration
	url           string
	errorPercent  int32
	p99           time.Duration
	prometheus    string
	query         string
	min, max      string
	job           string
	onFailure     string
	maxConcurrent int32
	stepTimeout   time.Duration
}

func (g *gateFlags) addFlags(flags *pflag.FlagSet) {
	if !g.once {
		flags.StringVar(&g.steps, "steps", "100", "shares of each workload, in percent, that have moved after each step; they rise to 100")
	}
	flags.DurationVar(&g.soak, "soak", 10*time.Second, "how long all pods of a step have to be Ready without a break")
	flags.StringVar(&g.url, "http", "", "URL that spillwayd asks while the pods soak, ten times a second; a Service has a name like http://web.shop.svc")
	flags.Int32Var(&g.errorPercent, "max-error-percent", 1, "part of the requests to --http that may fail")
	flags.DurationVar(&g.p99, "max-p99", 0, "how long the slowest but one percent of the requests to --http may take (default: any time)")
	flags.StringVar(&g.prometheus, "prometheus", "", "URL of a Prometheus API that spillwayd asks after the soak")
	flags.StringVar(&g.query, "query", "", "what it is asked, in PromQL: something that gives one number")
	flags.StringVar(&g.min, "min", "", "the least that the number may be")
	flags.StringVar(&g.max, "max", "", "the most that the number may be")
	flags.StringVar(&g.job, "job", "", "CronJob of the namespace whose Job is run after the soak, and has to succeed; the CronJob may be suspended")
	flags.StringVar(&g.onFailure, "on-failure", "rollback", "what happens when a step or its gate fails: rollback or pause")
	flags.Int32Var(&g.maxConcurrent, "max-concurrent", 0, "how many pods of one workload may be on their way at once (default: a quarter of them)")
	flags.DurationVar(&g.stepTimeout, "step-timeout", 10*time.Minute, "how long a step may take until its pods are Ready")
}

// spec checks the flags and makes of them what a Migration's spec says but for what is moved and where to. What the user did not
// give is left to the defaults of the kind.
func (g gateFlags) spec(flags *pflag.FlagSet) (spec v1alpha1.MigrationSpec, err error) {
	if g.steps != "" {
		if spec.Steps, err = parseSteps(g.steps); err != nil {
			return spec, err
		}
	}
	switch strings.ToLower(g.onFailure) {
	case "rollback":
		spec.OnFailure = v1alpha1.FailureRollback
	case "pause":
		spec.OnFailure = v1alpha1.FailurePause
	default:
		return spec, usagef("Use rollback or pause.", "--on-failure %q is not known", g.onFailure)
	}
	if flags.Changed("max-concurrent") {
		if g.maxConcurrent < 1 {
			return spec, usagef("Give 1 or more.", "--max-concurrent %d lets nothing move", g.maxConcurrent)
		}
		spec.MaxConcurrent = &g.maxConcurrent
	}
	if g.stepTimeout <= 0 {
		return spec, usagef("Give a time like 10m.", "--step-timeout %s is not a time to wait", g.stepTimeout)
	}
	if flags.Changed("step-timeout") {
		spec.StepTimeout = &metav1.Duration{Duration: g.stepTimeout}
	}
	if g.soak < 0 {
		return spec, usagef("Give a time like 30s, or 0s for none.", "--soak %s is not a time to wait", g.soak)
	}
	if flags.Changed("soak") {
		spec.Gate.Soak = &metav1.Duration{Duration: g.soak}
	}
	if spec.Gate.HTTP, err = g.http(flags); err != nil {
		return spec, err
	}
	if spec.Gate.Prometheus, err = g.promQL(flags); err != nil {
		return spec, err
	}
	if flags.Changed("job") {
		if len(validation.IsDNS1123Subdomain(g.job)) > 0 || len(g.job) > 52 {
			return spec, usagef("Name a CronJob of the namespace.", "--job %q cannot be the name of a CronJob", g.job)
		}
		spec.Gate.Job = &v1alpha1.JobGate{FromCronJob: g.job}
	}
	return spec, nil
}

func (g gateFlags) http(flags *pflag.FlagSet) (*v1alpha1.HTTPGate, error) {
	if !flags.Changed("http") {
		for _, flag := range []string{"max-error-percent", "max-p99"} {
			if flags.Changed(flag) {
				return nil, usagef("Say which URL is asked: --http URL", "--%s belongs to --http", flag)
			}
		}
		return nil, nil
	}
	if err := checkURL("--http", g.url); err != nil {
		return nil, err
	}
	gate := &v1alpha1.HTTPGate{URL: g.url}
	if flags.Changed("max-error-percent") {
		if g.errorPercent < 0 || g.errorPercent > 100 {
			return nil, usagef("Give a whole number from 0 to 100.", "--max-error-percent %d is not a percentage", g.errorPercent)
		}
		gate.MaxErrorPercent = &g.errorPercent
	}
	if flags.Changed("max-p99") {
		if g.p99 <= 0 {
			return nil, usagef("Give a time like 300ms.", "--max-p99 %s is not a time", g.p99)
		}
		gate.MaxP99 = &metav1.Duration{Duration: g.p99}
	}
	return gate, nil
}

func (g gateFlags) promQL(flags *pflag.FlagSet) (*v1alpha1.PrometheusGate, error) {
	if !flags.Changed("prometheus") {
		for _, flag := range []string{"query", "min", "max"} {
			if flags.Changed(flag) {
				return nil, usagef("Say who is asked: --prometheus URL", "--%s belongs to --prometheus", flag)
			}
		}
		return nil, nil
	}
	if err := checkURL("--prometheus", g.prometheus); err != nil {
		return nil, err
	}
	if strings.TrimSpace(g.query) == "" {
		return nil, usagef("Give one with --query.", "it is not said what to ask Prometheus for")
	}
	if g.min == "" && g.max == "" {
		return nil, usagef("Say --min or --max.", "it is not said what the query may give")
	}
	limit := regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`)
	for flag, text := range map[string]string{"--min": g.min, "--max": g.max} {
		if text != "" && !limit.MatchString(text) {
			return nil, usagef("Write it like 0.5 or 200.", "%s %q is not a decimal number", flag, text)
		}
	}
	return &v1alpha1.PrometheusGate{URL: strings.TrimSuffix(g.prometheus, "/"), Query: g.query, Min: g.min, Max: g.max}, nil
}

// checkURL refuses what is not an address to ask.
func checkURL(flag, text string) error {
	if !regexp.MustCompile(`^https?://[^/\s]+`).MatchString(text) {
		return usagef("Write it like http://web.shop.svc:8080/healthz.", "%s %q is not an http address", flag, text)
	}
	return nil
}

// nameFor makes up a name for a Migration of what is chosen: what is moved and where to, and a number when that is taken.
func nameFor(choice v1alpha1.WorkloadChoice, namespace string, to destination, taken func(string) bool) string {
	what := "selection"
	switch {
	case choice.All:
		what = namespace
	case len(choice.Names) == 1:
		what = choice.Names[0].Name
	case len(choice.Names) > 1:
		what = fmt.Sprintf("%s-and-%d-more", choice.Names[0].Name, len(choice.Names)-1)
	}
	name := sanitise(what) + "-to-" + to.name()
	for n := 2; taken(name); n++ {
		name = fmt.Sprintf("%s-to-%s-%d", sanitise(what), to.name(), n)
	}
	return name
}
