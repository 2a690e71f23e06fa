package fidelity

import corev1 "k8s.io/api/core/v1"

// shapes is the table.
func shapes() []shape {
	var all []shape
	for _, part := range [][]shape{endings(), initShapes(), probes(), environment(), files(), identities(), scheduling(), changed()} {
		all = append(all, part...)
	}
	return all
}

const emptyDir = "volumes: [{name: data, emptyDir: {}}]"

// endings: exit codes, restarts, what a container says at its end.
func endings() []shape {
	const mounted = `, volumeMounts: [{name: data, mountPath: /data}]`
	return []shape{
		{name: "exit-0", spec: see("env:PATH", "cwd", "host", "id")},
		{name: "exit-1", spec: see("exit:1")},
		{name: "killed-by-itself", spec: see("kill")},
		{name: "exit-137", spec: see("exit:137")},
		{name: "panic", spec: once(`args: [crash]`)},
		{name: "always-0-restarts", until: waitingWithRestart, spec: always(`args: [see, "exit:0"]`),
			differs: map[string]reason{"app: message": kubeletWords}},
		{name: "always-3-restarts", warns: "BackOff", until: waitingWithRestart, spec: always(`args: [see, "exit:3"]`),
			differs: map[string]reason{"app: message": kubeletWords}},
		{name: "always-second-try-stays", until: restarted(1), spec: always(`args: [see, "first:/data/x:7", stay]`+mounted, emptyDir)},
		{name: "on-failure-second-try-succeeds", spec: "restartPolicy: OnFailure\n" + always(`args: [see, "first:/data/x:7", "tree:/data"]`+mounted, emptyDir)},
		{name: "on-failure-0", spec: "restartPolicy: OnFailure\n" + always(`args: [see, "exit:0"]`)},
		{name: "container-restart-policy", spec: once(`restartPolicy: OnFailure, args: [see, "first:/data/x:9", "host"]`+mounted, emptyDir)},
		{name: "restart-rule-by-exit-code", spec: once(`restartPolicy: Never, restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}], args: [see, "first:/data/x:42", "exit:5"]`+mounted, emptyDir)},
		{name: "two-containers-one-fails", spec: "restartPolicy: Never\ncontainers: [{name: good, args: [see, host]}, {name: bad, args: [see, \"exit:2\"]}]"},
		{name: "message-elsewhere", spec: once(`terminationMessagePath: /tmp/note, args: [see, "to:/tmp/note", "env:PATH", "exit:4"]`)},
		{name: "message-from-log", spec: once(`terminationMessagePolicy: FallbackToLogsOnError, args: [see, "to:-", "env:PATH", "exit:4"]`)},
		{name: "no-message-from-log-on-success", spec: once(`terminationMessagePolicy: FallbackToLogsOnError, args: [see, "to:-", "env:PATH"]`)},
		{name: "deadline", spec: once(`args: [sleep]`, "activeDeadlineSeconds: 2")},
		{name: "no-such-image", warns: "ErrImageNeverPull", until: waiting("ErrImageNeverPull"), spec: once(`image: spillway.dev/lab/none:v1`)},
		{name: "invalid-image-name", warns: "InspectFailed", until: waiting("InvalidImageName"), spec: once(`image: "spillway.dev/Lab:V1:x"`)},
		{name: "no-such-command", warns: "Failed", spec: once(`command: [/nothing]`)},
		{name: "no-such-command-again", until: waitingWithRestart, spec: always(`command: [/nothing]`),
			differs: map[string]reason{"app: message": kubeletWords}},
		{name: "bad-working-directory", spec: once(`workingDir: /app, args: [see]`)},
		{name: "command-and-args-expand", spec: once(`env: [{name: WHO, value: world}, {name: BOTH, value: "hello $(WHO)"}], command: [/app, see], args: ["env:BOTH", args, "--", "$(BOTH)", "$(NOBODY)", "$$(WHO)"]`)},
		{name: "working-directory", spec: once(`workingDir: /tmp/deep/er, args: [see, cwd]`)},
		{name: "stdin-closed", spec: once(`args: [see, stdin]`)},
		{name: "out-of-memory", spec: once(`args: [see, "hog:64"], resources: {limits: {memory: 24Mi}}`)},
	}
}

// waitingWithRestart is a container that waits after its first restart.
func waitingWithRestart(pod *corev1.Pod) bool {
	return waiting("CrashLoopBackOff")(pod) && pod.Status.ContainerStatuses[0].RestartCount == 1
}

func initShapes() []shape {
	const shared = `, volumeMounts: [{name: data, mountPath: /data}]`
	return []shape{
		{name: "two-inits-in-order", spec: "initContainers: [{name: one, args: [see, \"touch:/data/1\"]" + shared + "}, {name: two, args: [see, \"tree:/data\"]" + shared + "}]\n" +
			once(`args: [see]`, emptyDir)},
		{name: "init-fails", spec: "initContainers: [{name: prepare, args: [see, \"exit:3\"]}]\n" + once(`args: [see]`)},
		{name: "init-fails-again", warns: "BackOff", until: initWaits, spec: "initContainers: [{name: prepare, args: [see, \"exit:3\"]}]\n" + always(`args: [see]`),
			differs: map[string]reason{"init prepare: message": kubeletWords}},
		{name: "init-second-try", spec: "initContainers: [{name: prepare, args: [see, \"first:/data/x:1\"]" + shared + "}]\n" +
			"restartPolicy: OnFailure\n" + always(`args: [see, "tree:/data"]`+shared, emptyDir)},
		{name: "sidecar-ends-with-the-pod", spec: "initContainers: [{name: side, restartPolicy: Always, args: [see, \"touch:/data/x\", stay]" + shared + "}]\n" +
			once(`args: [see, "until:/data/x", host]`+shared, emptyDir)},
		{name: "sidecar-with-startup-probe", until: ready,
			spec: "initContainers: [{name: side, restartPolicy: Always, args: [see, \"serve::8081\", stay], startupProbe: {tcpSocket: {port: 8081}, periodSeconds: 1}}]\n" + always(`args: [sleep]`)},
		{name: "sidecar-restarts", until: restarted(1),
			spec: "initContainers: [{name: side, restartPolicy: Always, args: [see, \"first:/data/x:1\", stay]" + shared + "}]\n" + always(`args: [sleep]`, emptyDir)},
		{name: "init-and-sidecar", spec: "initContainers: [{name: one, args: [see, host]}, {name: side, restartPolicy: Always, args: [sleep]}, {name: two, args: [see, host]}]\n" + once(`args: [see]`)},
	}
}

func initWaits(pod *corev1.Pod) bool {
	return waiting("CrashLoopBackOff")(pod) && pod.Status.InitContainerStatuses[0].RestartCount == 1
}

// probes and hooks.
func probes() []shape {
	const serve = `args: [see, "serve::8080", "touch:/tmp/up", stay], ports: [{name: http, containerPort: 8080}], `
	return []shape{
		{name: "ready-by-http", until: ready, spec: always(serve + `readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}`)},
		{name: "never-ready-by-http", warns: "Unhealthy", until: notReady, spec: always(serve + `readinessProbe: {httpGet: {path: /broken, port: 8080}, periodSeconds: 1, timeoutSeconds: 10}`)},
		{name: "ready-by-tcp", until: ready, spec: always(serve + `readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}`)},
		{name: "ready-by-exec", until: ready, spec: always(serve + `readinessProbe: {exec: {command: [/app, cat, /tmp/up]}, periodSeconds: 1}`)},
		{name: "never-ready-by-exec", warns: "Unhealthy", until: notReady, spec: always(serve + `readinessProbe: {exec: {command: [/app, exit, "1"]}, periodSeconds: 1, timeoutSeconds: 10}`)},
		{name: "started-by-http", until: ready, spec: always(serve + `startupProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}`)},
		{name: "not-started", until: notReady, spec: always(serve + `startupProbe: {exec: {command: [/app, exit, "1"]}, periodSeconds: 1, failureThreshold: 900}`)},
		{name: "killed-by-liveness", until: restarted(1),
			spec: always(`args: [see, "first:/data/x:1", "touch:/data/y", stay], livenessProbe: {exec: {command: [/app, cat, /data/y]}, periodSeconds: 1}, volumeMounts: [{name: data, mountPath: /data}]`, emptyDir)},
		{name: "liveness-never-holds", warns: "Unhealthy", until: restarted(1),
			spec: always(serve + `livenessProbe: {httpGet: {path: /broken, port: 8080}, periodSeconds: 4, initialDelaySeconds: 2, failureThreshold: 1}`)},
		{name: "post-start-hook", spec: once(`lifecycle: {postStart: {exec: {command: [/app, see, "to:/data/hook", host]}}}, args: [see, "until:/data/hook", "file:/data/hook"], volumeMounts: [{name: data, mountPath: /data}]`, emptyDir)},
		{name: "post-start-hook-fails", warns: "FailedPostStartHook", until: waitingWithRestart, spec: always(`lifecycle: {postStart: {exec: {command: [/app, exit, "1"]}}}, args: [sleep]`),
			differs: map[string]reason{"app: message": kubeletWords}},
		{name: "pre-stop-hook", until: ready, spec: always(`lifecycle: {preStop: {exec: {command: [/app, exit, "0"]}}}, args: [sleep]`)},
		{name: "pre-stop-sleep", until: ready, spec: always(`lifecycle: {preStop: {sleep: {seconds: 1}}}, args: [sleep]`)},
		{name: "readiness-gate-open", until: notReady, spec: always(`args: [sleep]`, "readinessGates: [{conditionType: example.com/fed}]")},
	}
}

func notReady(pod *corev1.Pod) bool {
	return running(pod) && has(pod, corev1.PodReady, corev1.ConditionFalse)
}
