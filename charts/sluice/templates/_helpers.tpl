{{- define "sluice.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "sluice" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-sluice" (.Release.Name | trunc 43 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "sluice.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "sluice.fullname" .) -}}
{{- else -}}
{{- required "serviceAccount.name: nothing was found; the name of an account is needed where serviceAccount.create is false." .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "sluice.leaseName" -}}
{{- include "sluice.fullname" . }}-leader
{{- end -}}

{{/* The Service whose addresses Ingresses show; empty where addresses are given, or those of the nodes are shown. */}}
{{- define "sluice.publishService" -}}
{{- if .Values.status.publishService -}}
{{- .Values.status.publishService -}}
{{- else if not (or .Values.status.publishAddresses .Values.hostPorts.enabled) -}}
{{- .Release.Namespace }}/{{ include "sluice.fullname" . -}}
{{- end -}}
{{- end -}}

{{/* Labels of the pods whose nodes' addresses Ingresses show; empty where they show others. */}}
{{- define "sluice.publishNodes" -}}
{{- if and .Values.hostPorts.enabled (not .Values.status.publishService) (not .Values.status.publishAddresses) -}}
app.kubernetes.io/name=sluice,app.kubernetes.io/instance={{ .Release.Name }}
{{- end -}}
{{- end -}}

{{- define "sluice.selectorLabels" -}}
app.kubernetes.io/name: sluice
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "sluice.commonLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: sluice
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "sluice.labels" -}}
{{ include "sluice.selectorLabels" . }}
{{ include "sluice.commonLabels" . }}
{{- end -}}

{{- define "sluice.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag }}
{{- end -}}

{{/* What both containers, and that of the test, may not do. */}}
{{- define "sluice.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Seconds of a duration as Kubernetes writes it, such as 1m30s. */}}
{{- define "sluice.seconds" -}}
{{- $sum := 0.0 -}}
{{- range regexFindAll "[0-9.]+(ms|s|m|h)" . -1 -}}
{{- $unit := regexFind "[a-z]+" . -}}
{{- $sum = addf $sum (mulf (trimSuffix $unit . | float64) (get (dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0) $unit)) -}}
{{- end -}}
{{- $sum -}}
{{- end -}}

{{/* What the schema cannot say: values that contradict each other. */}}
{{- define "sluice.check" -}}
{{- if and .Values.autoscaling.enabled (eq .Values.kind "DaemonSet") -}}
{{- fail "autoscaling.enabled: true was found with kind DaemonSet, which has one pod on each node; kind Deployment would be accepted." -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (not (dig "requests" "cpu" "" .Values.proxy.resources)) -}}
{{- fail "proxy.resources.requests.cpu: nothing was found; autoscaling needs what its percentage is of." -}}
{{- end -}}
{{- if gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas) -}}
{{- fail (printf "autoscaling.minReplicas: %v was found, at most autoscaling.maxReplicas, %v, would be accepted." .Values.autoscaling.minReplicas .Values.autoscaling.maxReplicas) -}}
{{- end -}}
{{- if eq (int .Values.controller.runAsUser) (int .Values.proxy.runAsUser) -}}
{{- fail (printf "proxy.runAsUser: %v was found, which is the controller's; the two containers need users of their own." .Values.proxy.runAsUser) -}}
{{- end -}}
{{- if and .Values.metrics.serviceMonitor.enabled (not .Values.metrics.service.enabled) -}}
{{- fail "metrics.serviceMonitor.enabled: true was found, but metrics.service.enabled is false; a ServiceMonitor needs the Service." -}}
{{- end -}}
{{- if and .Values.status.publishService .Values.status.publishAddresses -}}
{{- fail "status.publishAddresses: Ingresses show these or the addresses of status.publishService; one of the two would be accepted." -}}
{{- end -}}
{{- /* The proxy ends 5 s before SIGKILL, and needs 4 s of what is left for the close frames that come last and their answers. */ -}}
{{- $left := sub .Values.terminationGracePeriodSeconds 9 -}}
{{- $delay := include "sluice.seconds" .Values.proxy.drainDelay | float64 -}}
{{- $time := include "sluice.seconds" .Values.proxy.drainTime | float64 -}}
{{- if gt $delay (float64 $left) -}}
{{- fail (printf "proxy.drainDelay: %s was found, at most %ds would be accepted with terminationGracePeriodSeconds %v." .Values.proxy.drainDelay $left .Values.terminationGracePeriodSeconds) -}}
{{- end -}}
{{- if gt (addf $delay $time) (float64 $left) -}}
{{- fail (printf "proxy.drainTime: %s was found, at most %vs would be accepted after proxy.drainDelay, %s, with terminationGracePeriodSeconds %v; of these the last 9 are not for it. %v of them would be accepted too." .Values.proxy.drainTime (subf (float64 $left) $delay) .Values.proxy.drainDelay .Values.terminationGracePeriodSeconds (addf $delay $time 9 | ceil)) -}}
{{- end -}}
{{- $certificate := .Values.controller.defaultCertificate -}}
{{- if and $certificate .Values.watchNamespaces (not (has (splitList "/" $certificate | first) .Values.watchNamespaces)) -}}
{{- fail (printf "controller.defaultCertificate: %q was found, a Secret of one of watchNamespaces (%s) would be accepted." $certificate (join ", " .Values.watchNamespaces)) -}}
{{- end -}}
{{- end -}}
