{{- define "sluice.podTemplate" -}}
metadata:
  labels:
    # Without the chart's version: a new one alone restarts no pod.
    {{- include "sluice.selectorLabels" . | nindent 4 }}
    {{- with mergeOverwrite dict .Values.commonLabels .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: proxy
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "sluice.serviceAccountName" . }}
  # The token is in a volume below that only the controller mounts.
  automountServiceAccountToken: false
  # A Service named sluice-... would otherwise put variables named SLUICE_... here.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
  {{- toYaml . | nindent 2 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    fsGroup: {{ .Values.fsGroup }}
    seccompProfile:
      type: RuntimeDefault
  containers:
  - name: proxy
    {{- include "sluice.proxy" . | nindent 4 }}
  - name: controller
    {{- include "sluice.controller" . | nindent 4 }}
  {{- with .Values.extraContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  volumes:
  - name: control
    emptyDir:
      medium: Memory
      sizeLimit: 1Mi
  # The proxy's own socket, for whoever may exec into it.
  - name: admin
    emptyDir:
      medium: Memory
      sizeLimit: 1Mi
  - name: token
    projected:
      defaultMode: 0440
      sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 3607
      - configMap:
          name: kube-root-ca.crt
          items:
          - {key: ca.crt, path: ca.crt}
      - downwardAPI:
          items:
          - path: namespace
            fieldRef:
              fieldPath: metadata.namespace
  {{- with .Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- if and .Values.topologySpreadConstraints (eq .Values.kind "Deployment") }}
  topologySpreadConstraints:
  {{- range .Values.topologySpreadConstraints }}
  - {{ toYaml . | nindent 4 | trim }}
    {{- if not .labelSelector }}
    labelSelector:
      matchLabels:
        {{- include "sluice.selectorLabels" $ | nindent 8 }}
    {{- end }}
  {{- end }}
  {{- end }}
{{- end -}}

{{- define "sluice.controller" -}}
image: {{ include "sluice.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
command: [sluice, controller]
args:
- --control-socket=/run/sluice/control.sock
- --proxy-uid={{ int .Values.proxy.runAsUser }}
- --health=:9091
- --controller-name={{ .Values.ingressClass.controllerName }}
- --grace={{ sub .Values.terminationGracePeriodSeconds 2 }}
{{- if .Values.status.update }}
- --lease={{ include "sluice.leaseName" . }}
{{- with .Values.status.publishAddresses }}
- --publish-address={{ join "," . }}
{{- end }}
{{- with include "sluice.publishService" . }}
- --publish-service={{ . }}
{{- end }}
{{- with include "sluice.publishNodes" . }}
- --publish-nodes={{ . }}
{{- end }}
{{- else }}
- --no-update-status
{{- end }}
{{- with .Values.watchNamespaces }}
- --watch-namespaces={{ join "," . }}
{{- end }}
{{- with .Values.watchNamespaceSelector }}
- {{ printf "--watch-namespace-selector=%s" . | quote }}
{{- end }}
{{- if .Values.controller.podGrace }}
- --pod-grace
{{- end }}
- --log-level={{ .Values.controller.logLevel }}
- --host-ownership={{ .Values.controller.hostOwnership }}
{{- with .Values.controller.defaultCertificate }}
- --default-certificate={{ . }}
{{- end }}
{{- if .Values.controller.allowExternalName }}
- --allow-external-name
{{- end }}
{{- range .Values.controller.extraArgs }}
- {{ . | quote }}
{{- end }}
env:
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
# All of them, of both families.
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIPs
{{- with .Values.controller.extraEnv }}
{{ toYaml . }}
{{- end }}
ports:
- name: health
  containerPort: 9091
livenessProbe:
  httpGet:
    path: /healthz
    port: health
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
resources:
  {{- toYaml .Values.controller.resources | nindent 2 }}
securityContext:
  runAsUser: {{ int .Values.controller.runAsUser }}
  runAsGroup: {{ int .Values.controller.runAsUser }}
  {{- include "sluice.containerSecurity" . | nindent 2 }}
volumeMounts:
- name: control
  mountPath: /run/sluice
- name: token
  mountPath: /var/run/secrets/kubernetes.io/serviceaccount
  readOnly: true
{{- with .Values.controller.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "sluice.proxy" -}}
image: {{ include "sluice.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
command: [sluice-proxy]
args:
- --control-socket=/run/sluice/control.sock
- --controller-uid={{ int .Values.controller.runAsUser }}
- --admin-socket=/run/sluice-proxy/admin.sock
- --http=:8080
- --https=:8443
- --admin=:9090
- --public-http-port={{ int (ternary .Values.hostPorts.http .Values.service.ports.http .Values.hostPorts.enabled) }}
- --public-https-port={{ int (ternary .Values.hostPorts.https .Values.service.ports.https .Values.hostPorts.enabled) }}
- --workers={{ .Values.proxy.workers }}
- --log-level={{ .Values.proxy.logLevel }}
- --access-log={{ .Values.proxy.accessLog }}
{{- with .Values.proxy.trustedProxies }}
- --trusted-proxies={{ join "," . }}
{{- end }}
{{- if .Values.proxy.strictSNI }}
- --strict-sni
{{- end }}
{{- with int .Values.proxy.maxConnections }}
- --max-connections={{ . }}
{{- end }}
{{- with int .Values.proxy.maxConnectionsPerClient }}
- --max-connections-per-client={{ . }}
{{- end }}
- --drain-delay={{ .Values.proxy.drainDelay }}
- --drain-time={{ .Values.proxy.drainTime }}
- --grace={{ sub .Values.terminationGracePeriodSeconds 5 }}s
{{- range .Values.proxy.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- with .Values.proxy.extraEnv }}
env:
{{ toYaml . }}
{{- end }}
ports:
- name: http
  containerPort: 8080
  {{- if .Values.hostPorts.enabled }}
  hostPort: {{ .Values.hostPorts.http }}
  {{- end }}
- name: https
  containerPort: 8443
  {{- if .Values.hostPorts.enabled }}
  hostPort: {{ .Values.hostPorts.https }}
  {{- end }}
- name: admin
  containerPort: 9090
# Ready is asked for by the readiness probe only: a proxy that waits for its first configuration gains nothing by a restart.
startupProbe:
  httpGet:
    path: /healthz
    port: admin
  periodSeconds: 1
  failureThreshold: 60
readinessProbe:
  httpGet:
    path: /readyz
    port: admin
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 3
livenessProbe:
  httpGet:
    path: /healthz
    port: admin
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
resources:
  {{- toYaml .Values.proxy.resources | nindent 2 }}
securityContext:
  runAsUser: {{ int .Values.proxy.runAsUser }}
  runAsGroup: {{ int .Values.proxy.runAsUser }}
  {{- include "sluice.containerSecurity" . | nindent 2 }}
volumeMounts:
- name: control
  mountPath: /run/sluice
  readOnly: true
- name: admin
  mountPath: /run/sluice-proxy
{{- with .Values.proxy.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}
