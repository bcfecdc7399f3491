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

{{/* A name begins with its registry where what stands before the first slash has a dot or a colon, or is localhost. */}}
{{- define "sluice.image" -}}
{{- $name := .Values.image.repository -}}
{{- with .Values.image.registry | default (dig "image" "registry" "" (.Values.global | default dict)) -}}
{{- $name = printf "%s/%s" (trimSuffix "/" .) (regexReplaceAll "^(localhost|[^/]*[.:][^/]*)/" $name "") -}}
{{- end -}}
{{ $name }}:{{ .Values.image.tag }}
{{- with .Values.image.digest }}@{{ . }}{{ end }}
{{- end -}}

{{/* A Service in front of the proxies. Given: root, name, the values that are its own, and where its ports lead. */}}
{{- define "sluice.service" -}}
{{- $all := .root.Values.service -}}
{{- $own := .own -}}
{{- $targets := .targets -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "sluice.labels" .root | nindent 4 }}
    {{- with mergeOverwrite dict $all.labels $own.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $own.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ $own.type }}
  {{- if ne $own.type "ClusterIP" }}
  externalTrafficPolicy: {{ $own.externalTrafficPolicy }}
  {{- end }}
  {{- if eq $own.type "LoadBalancer" }}
  {{- with $own.loadBalancerClass }}
  loadBalancerClass: {{ . }}
  {{- end }}
  {{- with $own.loadBalancerSourceRanges }}
  loadBalancerSourceRanges:
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- end }}
  {{- with $own.externalIPs }}
  externalIPs:
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with $own.ipFamilyPolicy }}
  ipFamilyPolicy: {{ . }}
  {{- end }}
  {{- with $own.ipFamilies }}
  ipFamilies:
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- if ne $own.sessionAffinity "None" }}
  sessionAffinity: {{ $own.sessionAffinity }}
  {{- end }}
  selector:
    {{- include "sluice.selectorLabels" .root | nindent 4 }}
  ports:
  {{- range $name, $enabled := dict "http" $all.enableHttp "https" $all.enableHttps }}
  {{- if $enabled }}
  - name: {{ $name }}
    port: {{ index $all.ports $name }}
    targetPort: {{ index $targets $name }}
    protocol: TCP
    {{- $nodePort := index $own.nodePorts $name }}
    {{- if and $nodePort (ne $own.type "ClusterIP") }}
    nodePort: {{ $nodePort }}
    {{- end }}
  {{- end }}
  {{- end }}
{{- end -}}

{{/* The port of the Service that leads to the proxy's plain HTTP, which `helm test` asks; empty: there is none. */}}
{{- define "sluice.plainPort" -}}
{{- $service := .Values.service -}}
{{- if and $service.enableHttp (eq (toString $service.targetPorts.http) "http") -}}
{{- $service.ports.http -}}
{{- else if and $service.enableHttps (eq (toString $service.targetPorts.https) "http") -}}
{{- $service.ports.https -}}
{{- end -}}
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

{{/* The dotted name of each value, one a line. Given: values, and what stands before their names. */}}
{{- define "sluice.leaves" -}}
{{- $before := .before -}}
{{- range $name, $value := .values -}}
{{- if and (kindIs "map" $value) $value -}}
{{- include "sluice.leaves" (dict "values" $value "before" (printf "%s%s." $before $name)) -}}
{{- else -}}
{{- printf "%s%s\n" $before $name -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Values of ingress-nginx's chart are refused with ours in their place; the schema lets them come here. */}}
{{- define "sluice.refuseIngressNginx" -}}
{{- $ours := list "allowExternalName" "defaultCertificate" "extraArgs" "extraEnv" "extraVolumeMounts" "hostOwnership" "logLevel" "podGrace" "resources" "runAsUser" -}}
{{- $table := .Files.Get "files/ingress-nginx.yaml" | fromYaml -}}
{{- $found := dict -}}
{{- range include "sluice.leaves" (dict "values" .Values "before" "") | trim | splitList "\n" -}}
{{- $names := splitList "." . -}}
{{- $path := "" -}}
{{- $known := "" -}}
{{- range $names -}}
{{- $path = printf "%s.%s" $path . | trimPrefix "." -}}
{{- $known = ternary $path $known (hasKey $table $path) -}}
{{- end -}}
{{- if $known -}}
{{- $_ := set $found $known (get $table $known) -}}
{{- else if hasPrefix "controller.extraArgs." . -}}
{{- $_ := set $found . "none: this flag is not there; controller.extraArgs and proxy.extraArgs are lists of flags of Sluice's own" -}}
{{- else if and (hasPrefix "controller." .) (not (has (index $names 1) $ours)) -}}
{{- $_ := set $found . "none: there is nothing of this name" -}}
{{- end -}}
{{- end -}}
{{- if $found -}}
{{- $lines := list -}}
{{- range $path, $instead := $found -}}
{{- $lines = append $lines (printf "  %s -> %s" $path $instead) -}}
{{- end -}}
{{- fail (printf "These are values of ingress-nginx's chart. In place of each this chart has:\n%s\ncontroller.resources, extraArgs, extraEnv and extraVolumeMounts are here of the container that watches the cluster; those of the one that clients reach are proxy.resources and so on. docs/migration.md has the whole table." (join "\n" $lines)) -}}
{{- end -}}
{{- end -}}

{{/* What the schema cannot say: values that contradict each other. */}}
{{- define "sluice.check" -}}
{{- include "sluice.refuseIngressNginx" . -}}
{{- if and .Values.autoscaling.enabled (eq .Values.kind "DaemonSet") -}}
{{- fail "autoscaling.enabled: true was found with kind DaemonSet, which has one pod on each node; kind Deployment would be accepted." -}}
{{- end -}}
{{- $percentages := dict "cpu" (int .Values.autoscaling.targetCPUUtilizationPercentage) "memory" (int .Values.autoscaling.targetMemoryUtilizationPercentage) -}}
{{- range $resource, $percentage := ternary $percentages dict .Values.autoscaling.enabled -}}
{{- if and $percentage (not (dig "requests" $resource "" $.Values.proxy.resources)) -}}
{{- fail (printf "proxy.resources.requests.%s: nothing was found; autoscaling needs what its percentage is of." $resource) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (not (or $percentages.cpu $percentages.memory .Values.autoscaling.metrics)) -}}
{{- fail "autoscaling.enabled: true was found, but no metric; targetCPUUtilizationPercentage, targetMemoryUtilizationPercentage or metrics would be accepted." -}}
{{- end -}}
{{- if not (or .Values.service.enableHttp .Values.service.enableHttps) -}}
{{- fail "service.enableHttp: false was found, and service.enableHttps is false too; a Service needs one port at least." -}}
{{- end -}}
{{- $volumes := list -}}
{{- range .Values.extraVolumes -}}
{{- if has .name (list "control" "admin" "token") -}}
{{- fail (printf "extraVolumes: %q was found, which is a volume of the chart; another name would be accepted." .name) -}}
{{- end -}}
{{- $volumes = append $volumes .name -}}
{{- end -}}
{{- range $container := list "controller" "proxy" -}}
{{- range (index $.Values $container).extraVolumeMounts -}}
{{- if not (has .name $volumes) -}}
{{- fail (printf "%s.extraVolumeMounts: %q was found, a name of extraVolumes would be accepted; there %s." $container .name (ternary "are none" (printf "are %s" (join ", " $volumes)) (empty $volumes))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range .Values.extraContainers -}}
{{- if has .name (list "controller" "proxy") -}}
{{- fail (printf "extraContainers: %q was found, which is a container of the chart; another name would be accepted." .name) -}}
{{- end -}}
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
{{- if and .Values.watchNamespaces .Values.watchNamespaceSelector -}}
{{- fail (printf "watchNamespaceSelector: %q was found beside watchNamespaces (%s); one of the two would be accepted." .Values.watchNamespaceSelector (join ", " .Values.watchNamespaces)) -}}
{{- end -}}
{{- $certificate := .Values.controller.defaultCertificate -}}
{{- if and $certificate .Values.watchNamespaces (not (has (splitList "/" $certificate | first) .Values.watchNamespaces)) -}}
{{- fail (printf "controller.defaultCertificate: %q was found, a Secret of one of watchNamespaces (%s) would be accepted." $certificate (join ", " .Values.watchNamespaces)) -}}
{{- end -}}
{{- end -}}
